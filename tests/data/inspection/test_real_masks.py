"""Real masks are certain as they are, and doubted after a fault."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from data.inspection.masks import seen
from PIL import Image

from seg_transfer.data.inspection.conclusions import conclude
from seg_transfer.data.inspection.evidence import look_at_mask

DATASETS = (
    "camvid", "dubai_aerial", "fasseg", "idd_lite", "labelmefacade", "nuclei", "nyuv2", "peanut", "road_damage",
    "voc_animals", "vocalfolds",
)  # fmt: skip


def masks_of(folder: Path, every: int) -> list[Path]:
    return sorted((folder / "labels").glob("*.png"))[::every]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", DATASETS)
def test_real_masks_are_certain(real_data: Path, name: str, split: str) -> None:
    meta = json.loads((real_data / name / "meta.json").read_text(encoding="utf-8"))
    # A subset finds no false alarm that all masks would not raise: 'some mask' suffices for a class.
    paths = masks_of(real_data / name / split, every=3)
    conclusion = conclude([look_at_mask(path) for path in paths], [])
    assert conclusion.doubts == ()
    pixels = np.zeros(256, np.int64)
    for path in paths:
        pixels += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
    assert {row.values[0]: row.pixels for row in conclusion.table} == {
        value: n for value, n in enumerate(pixels[: len(meta["classes"])].tolist()) if n
    }
    assert conclusion.ignored == ({255: int(pixels[255])} if pixels[255] else {})


@pytest.mark.parametrize("name", DATASETS)
def test_one_jpeg_among_real_masks_is_named(real_data: Path, name: str) -> None:
    """Of masks with 0 and 255, one went through JPEG."""
    paths = masks_of(real_data / name / "test", every=4)
    pictures = [
        Image.fromarray(np.where(np.asarray(Image.open(path)) % 2 == 1, 255, 0).astype(np.uint8)) for path in paths
    ]
    position = next(i for i, picture in enumerate(pictures) if len(picture.getcolors()) == 2)
    content = BytesIO()
    pictures[position].save(content, "JPEG", quality=90)
    pictures[position] = Image.open(content)
    conclusion = conclude([seen(picture, f"m{i}.png") for i, picture in enumerate(pictures)], [])
    (rare,) = (doubt for doubt in conclusion.doubts if doubt.kind == "rare")
    assert rare.seen.startswith(f"m{position}.png: ")
    assert [row.values[0] for row in conclusion.table] == [0, 255]
