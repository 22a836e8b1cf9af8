"""A dataset of 300 classes on tiny images, as a neighbor of the demo's datasets."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

N_CLASSES = 300
SIZE = (40, 48)
IGNORED = 7


def raw_value(index: np.ndarray) -> np.ndarray:
    """Raw values of classes, up to 59,900; 7 is ignored."""
    return index * 200 + 100


def label_map(number: int) -> np.ndarray:
    """Runs of six pixels per class, shifted from image to image, so that each image shows all classes; -1: ignored."""
    position = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) // 6
    index = (position + 37 * number) % N_CLASSES
    index[:, :3] = -1
    return index


def write_wide_dataset(world: Path) -> None:
    """Write the dataset ``wide`` with its manifest: 4 images to train on, 2 to evaluate on."""
    generator = np.random.default_rng(6)
    for split, numbers in (("train", range(4)), ("eval", range(4, 6))):
        folder = world / "wide" / split
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True)
        for number in numbers:
            index = label_map(number)
            colors = np.stack([index % 7 * 30, index % 11 * 20, index % 13 * 15], axis=2).clip(0)
            noisy = colors + generator.integers(0, 30, colors.shape)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / "images" / f"{number}.png")
            raw = np.where(index < 0, IGNORED, raw_value(index)).astype(np.uint16)
            Image.fromarray(raw).save(folder / "labels" / f"{number}.png")
    manifest = {
        "name": "wide",
        "title": "300 classes",
        "domain": "test",
        "classes": [f"class {index}" for index in range(N_CLASSES)],
        "labels": {
            "encoding": "id16",
            "ignore": [IGNORED],
            "map": {int(raw_value(np.array(index))): index for index in range(N_CLASSES)},
        },
        "root": "wide",
        **{
            split: {"images": f"{split}/images/*.png", "labels": f"{split}/labels/*.png"} for split in ("train", "eval")
        },
        "mean": [0.4, 0.4, 0.4],
        "std": [0.25, 0.25, 0.25],
        "crop_size": list(SIZE),
    }
    (world / "manifests" / "wide.yaml").write_text(yaml.safe_dump(manifest))
