"""Two targets of images of odd sizes, whose label maps have ids of their own; the color of a pixel shows its class."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

IDS = {"plots": (3, 10, 200), "rooms": (0, 40, 41, 90)}
SIZES = {"plots": (59, 83), "rooms": (64, 96)}
TUNED = "plots"
_IGNORED = 255
_COLORS = np.array([[15, 30, 10], [240, 130, 80], [230, 240, 250], [90, 110, 190]])


def write_targets(folder: Path) -> None:
    """Write three training and two other images of each target, and its manifest."""
    for seed, (name, ids) in enumerate(IDS.items()):
        rng = np.random.default_rng(seed)
        for split, n_images in (("train", 3), ("eval", 2)):
            for index in range(n_images):
                _write_image(folder / name / split, f"{split}{index}", ids, SIZES[name], rng)
        (folder / "manifests").mkdir(exist_ok=True)
        (folder / "manifests" / f"{name}.yaml").write_text(yaml.safe_dump(_manifest(name, ids)))


def _write_image(
    folder: Path, name: str, ids: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator
) -> None:
    coarse = rng.integers(0, len(ids), (3, 4)).astype(np.uint8)
    classes = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.NEAREST))
    pixels = (_COLORS[classes] + rng.normal(0, 20, (*size, 3))).clip(0, 255).astype(np.uint8)
    labels = np.array(ids, np.uint8)[classes]
    labels[:2] = _IGNORED
    for kind, array in (("images", pixels), ("labels", labels)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / f"{name}.png")


def _manifest(name: str, ids: tuple[int, ...]) -> dict[str, object]:
    # Images are resized so that their shorter side is that of a crop, which leaves these as they are.
    return {
        "name": name,
        "title": name,
        "domain": "test",
        "classes": [f"class {number}" for number in ids],
        "labels": {"encoding": "id", "ignore": [_IGNORED], "map": {number: place for place, number in enumerate(ids)}},
        "root": name,
        "train": {"images": "train/images/*.png", "labels": "train/labels/*.png"},
        "eval": {"images": "eval/images/*.png", "labels": "eval/labels/*.png"},
        "low_shot": {"limit": 3, "seed": 0},
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "crop_size": [min(SIZES[name])] * 2,
        "licence": "generated",
        "citation": "none",
    }
