"""Makes a dataset from a folder of images and a folder of label maps, without a manifest file."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low

import numpy as np

from seg_transfer.data.decoding import detect_encoding, read_raw_values
from seg_transfer.data.encodings import ValueLabels
from seg_transfer.data.fields import IGNORE
from seg_transfer.data.manifest import MAX_CLASSES, SCRATCH, DatasetManifest, Split
from seg_transfer.data.rgb import read_size
from seg_transfer.errors import ConfigError, DataError

# Larger images take time and add little information; users can change this in the manifest that is written.
MAX_SHORT_SIDE = 512
# ImageNet statistics, because the statistics of the images are unknown; only used with `normalisation: target`.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def manifest_of_folders(images: Path, labels: Path, names: Path | None = None) -> tuple[DatasetManifest, Path]:
    """Make a manifest for two folders whose files match by name.

    Args:
        images: Folder of images, searched recursively.
        labels: Folder of label maps with one number per pixel: 8-bit, palette, or 16-bit. 255 is ignored.
        names: Text file with one class name per line, in the order of label ids, from 0; the id of an empty line is
            ignored. Without this file, every value in the label maps is a class named after the value.

    Returns:
        A manifest without an eval split, and the data root that it is relative to.

    Raises:
        DataError: A folder is missing or empty, or a file cannot be read.
        ConfigError: Labels are colors, or the number of classes is out of range.
    """
    files = {folder: _files_in(folder) for folder in (images, labels)}
    root = Path(os.path.commonpath([images.resolve(), labels.resolve()]))
    encoding = detect_encoding(files[labels][0])
    if encoding == "rgb":
        raise ConfigError(
            f"{files[labels][0]}: labels are colors; write a manifest with labels.encoding: rgb and a color for "
            "every class, and name the manifest instead of folders"
        )
    values = _names_by_id(names) if names else _values_in(files[labels], encoding)
    classes, mapped = list(values.values()), {value: index for index, value in enumerate(values)}
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise ConfigError(
            f"{names or labels}: {len(classes)} classes, but 2 to {MAX_CLASSES} are allowed; name them in a file"
        )
    ignored = {IGNORE} | _ids_without_name(names)
    short_side = min(median_low(min(read_size(file)) for file in files[images]), MAX_SHORT_SIDE)
    manifest = DatasetManifest(
        name=_dataset_name(images),
        title=_dataset_name(images),
        domain="unknown",
        classes=tuple(classes),
        labels=ValueLabels(encoding=encoding, ignore=tuple(ignored - mapped.keys()), map=mapped),
        root=".",
        train=Split(
            images=(_recursive_glob(images, root),), labels=(_recursive_glob(labels, root),), exclude=("**/.*",)
        ),
        mean=_MEAN,
        std=_STD,
        crop_size=(short_side, short_side),
        notes="Made from two folders.",
    )
    return manifest, root


def _files_in(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: no such folder, or no file in it; name the folder that holds the files")
    return files


def _values_in(files: Sequence[Path], encoding: str) -> dict[int, str]:
    """Return a class name for each raw value in the label maps except 255."""
    values = {int(value) for file in files for value in np.unique(read_raw_values(file, encoding))}
    return {value: f"class_{value}" for value in sorted(values - {IGNORE})}


def _names_by_id(file: Path) -> dict[int, str]:
    return {value: name for value, name in enumerate(_lines(file)) if name}


def _ids_without_name(file: Path | None) -> set[int]:
    return {value for value, name in enumerate(_lines(file)) if not name} if file else set()


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as text ({error}); give one class name per line") from error


def _recursive_glob(folder: Path, root: Path) -> str:
    return "/".join([*(glob.escape(part) for part in folder.resolve().relative_to(root).parts), "**", "*"])


def _dataset_name(images: Path) -> str:
    """Derive a name from the path: ``data/city/images`` gives city."""
    parts = [part for part in images.resolve().parts if part not in ("images", "image", "img", "train", "/")]
    name = re.sub("[^a-z0-9_-]+", "_", (parts or ["target"])[-1].lower()).strip("_-")[:64]
    return name if name and name != SCRATCH else "target"
