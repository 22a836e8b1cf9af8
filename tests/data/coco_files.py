"""Files of COCO instances for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIZE = (8, 10)
CATEGORIES = {3: "road", 7: "car"}


def compress(counts: Sequence[int]) -> str:
    """COCO's text form of run lengths, written from its description: five bits per character, then a flag and 48."""
    text = ""
    for position, count in enumerate(counts):
        number = count - counts[position - 2] if position > 2 else count
        more = True
        while more:
            bits, number = number & 31, number >> 5
            more = number != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def runs(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of runs of a mask, column by column, beginning with zeros."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return ([0] if flat[0] else []) + np.diff([0, *changes, flat.size]).tolist()


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def annotation(category: object, segmentation: object, **fields: object) -> dict[str, object]:
    return {"id": 5, "image_id": 1, "category_id": category, "segmentation": segmentation, "iscrowd": 0} | fields


def rectangle(top: float, left: float, bottom: float, right: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def content(*annotations: dict[str, Any], images: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    listed = [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}] if images is None else list(images)
    categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in CATEGORIES.items()]
    return {"info": {"year": 2026}, "images": listed, "annotations": list(annotations), "categories": categories}


def write(root: Path, whole: dict[str, Any], names: Sequence[str] = ("a.png",)) -> Path:
    """Write mini/labels.json, and mini/images/NAME for every name."""
    for name in names:
        file = root / "mini/images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), len(name), np.uint8)).save(file)
    file = root / "mini/labels.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole), encoding="utf-8")
    return file
