"""A small world of procedural scenes, in which the right source for every target is known."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from seg_transfer.data.fields import IGNORE
from seg_transfer.demo.domains import DOMAINS, render
from seg_transfer.demo.scene import Bytes
from seg_transfer.errors import ConfigError
from seg_transfer.store.atomic import write_text

LOW_SHOT = 12
"""Number of low-shot images of every domain."""
MIN_SIZE = (48, 64)
"""Minimum (height, width) of images, in pixels."""
STAMP = "world.json"
UNFINISHED = "world.unfinished.json"
VERSION = 1
"""Version of the world, which is part of its stamp; increase it whenever a pixel or file of the world changes."""


def build_world(
    folder: Path,
    *,
    n_train: int = 24,
    n_source_train: int = 120,
    n_eval: int = 32,
    size: tuple[int, int] = (64, 96),
    seed: int = 0,
) -> list[Path]:
    """Write images, label maps and manifests of every domain.

    The files are ``<domain>/{train,source_train,eval}/{images,labels}/*.png`` and ``manifests/<domain>.yaml``, whose
    data root is the folder. ``world.json`` holds the settings and is written last; if it exists, nothing is written.

    Args:
        folder: Folder of the world.
        n_train: Train images per domain.
        n_source_train: Images per domain to train source models on.
        n_eval: Eval images per domain.
        size: (height, width) of images, in pixels.
        seed: Seed of the world.

    Returns:
        The manifest files.

    Raises:
        ConfigError: A setting is too small, or the folder holds another world.
    """
    counts = {"train": n_train, "source_train": n_source_train, "eval": n_eval}
    _check_settings(counts, size)
    settings = json.dumps({"version": VERSION, "images": counts, "size": size, "seed": seed})
    manifests = [folder / "manifests" / f"{name}.yaml" for name in DOMAINS]
    if not _claim(folder, settings):
        for name, manifest in zip(DOMAINS, manifests, strict=True):
            _write_domain(folder / name, manifest, counts, size, seed)
        write_text(folder / STAMP, settings)
        (folder / UNFINISHED).unlink(missing_ok=True)
    return manifests


def _check_settings(counts: Mapping[str, int], size: tuple[int, int]) -> None:
    for split, count in counts.items():
        if count < 1:
            raise ConfigError(f"n_{split}: {count}: a world needs at least 1 image in every split; increase it")
    if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1]:
        raise ConfigError(f"size: {size}: (height, width) must be at least {MIN_SIZE} to show everything; increase it")


def _claim(folder: Path, settings: str) -> bool:
    """Whether the world is finished; if not, record its settings, so that no other world is written to the folder."""
    for name in (STAMP, UNFINISHED):
        stamp = folder / name
        if stamp.exists() and (stored := stamp.read_text("utf-8", "replace")) != settings:
            raise ConfigError(f"{stamp}: holds another world, {stored!r} instead of {settings}; choose another folder")
    if (folder / STAMP).exists():
        return True
    write_text(folder / UNFINISHED, settings)
    return False


def _write_domain(root: Path, manifest: Path, counts: Mapping[str, int], size: tuple[int, int], seed: int) -> None:
    train = []
    for split, count in counts.items():
        for index in range(count):
            image, label = render(root.name, split, index, size=size, seed=seed)
            _save(image, root / split / "images" / f"{split}_{index:04d}.png")
            _save(label, root / split / "labels" / f"{split}_{index:04d}.png")
            if split == "train":
                train.append(image)
    write_text(manifest, _manifest(root.name, counts, size, np.stack(train)))


def _manifest(name: str, counts: Mapping[str, int], size: tuple[int, int], train: Bytes) -> str:
    domain, pixels = DOMAINS[name], train.reshape(-1, 3).astype(np.int64)
    mean = pixels.sum(axis=0) / len(pixels)
    variance = (pixels * pixels).sum(axis=0) / len(pixels) - mean * mean
    fields = {
        "name": name,
        "title": domain.title,
        "domain": domain.family,
        "classes": list(domain.classes),
        "labels": {"encoding": "id", "ignore": [IGNORE]},
        "root": name,
        **{split: {"images": [f"{split}/images/*.png"], "labels": [f"{split}/labels/*.png"]} for split in counts},
        "low_shot": {"limit": LOW_SHOT, "seed": 0},
        "mean": [round(float(value) / 255, 4) for value in mean],
        "std": [round(math.sqrt(value) / 255, 4) for value in variance],
        "crop_size": list(size),
        "licence": "generated",
        "citation": "none",
    }
    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=120)


def _save(pixels: Bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    Image.fromarray(pixels).save(partial, "PNG")
    partial.replace(path)
