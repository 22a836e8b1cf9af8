"""Looking at folders: limits, answers that count before pixels are read, and scenes as tiles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.corpus.cases import certain
from data.corpus.files import gray8, write_image
from data.corpus.scenes import colors
from PIL import Image

from seg_transfer.data.images import read_pair
from seg_transfer.data.inspection import Inspection, folders, inspect_folders
from seg_transfer.data.inspection.answers import parse_answers
from seg_transfer.data.inspection.conclusions import Conclusion
from seg_transfer.errors import ConfigError, DataError

LABEL = np.repeat(np.array([0, 0, 1, 2], np.uint8), 15)[:, None].repeat(20, axis=1)


def inspected(here: Path, **answers: object) -> Inspection:
    return inspect_folders(here / "images", here / "labels", answers=parse_answers(answers))


def test_no_pair_to_look_at(tmp_path: Path) -> None:
    given = certain(tmp_path).given
    with pytest.raises(ConfigError, match=r"^0 images: at least one must be looked at; state 1 or more$"):
        inspect_folders(given.images, given.labels, limit=0)


def test_tiles_at_the_limit_whatever_larger_one_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger images cannot be decoded as a whole."""
    certain(tmp_path)
    monkeypatch.setattr(folders, "MAX_PIXELS", 1000)
    found = inspected(tmp_path, max_pixels=10**9)
    assert found.manifest.tiles is not None
    assert found.manifest.tiles.above == 1000


def test_what_no_manifest_can_say_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certain(tmp_path)
    wrong = Conclusion(labels={"encoding": "id"}, classes=("a", "a"), images={}, notes=(), doubts=(), table=())
    monkeypatch.setattr(folders, "conclude", lambda *_: wrong)
    with pytest.raises(
        DataError, match=r"labels: no manifest can describe it: classes.*'a' more than once.*"
    ) as caught:
        inspected(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_scene_of_another_size_than_its_label_map(tmp_path: Path) -> None:
    """Every tile of the image fits into a larger label map."""
    write_image(tmp_path / "images" / "a.png", colors(60, 20, 1))
    gray8(tmp_path / "labels" / "a.png", np.pad(LABEL, ((0, 4), (0, 0))))
    with pytest.raises(DataError, match=r"labels/a\.png: 64 x 20 .*, but its image .* is 60 x 20"):
        inspected(tmp_path, max_pixels=100)


def test_tiles_of_a_jpeg_label_map_are_traces_of_compression(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", colors(60, 20, 1))
    (tmp_path / "labels").mkdir()
    Image.fromarray(LABEL * 100).save(tmp_path / "labels" / "a.jpg", quality=30)
    kinds = [[doubt.kind for doubt in inspected(tmp_path, **answers).doubts] for answers in ({}, {"max_pixels": 100})]
    assert kinds[0] == kinds[1]
    assert kinds[0]


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_tiles_of_images_that_exif_turns(tmp_path: Path, suffix: str) -> None:
    """Label maps are upright, so the tiles are parts of the upright image."""
    upright = colors(60, 20, 1)
    exif: Any = Image.Exif()
    exif[0x112] = 6
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "images" / "a.png", exif=exif)
    if suffix == "npy":
        np.save(tmp_path / "labels" / "a.npy", LABEL)
    else:
        gray8(tmp_path / "labels" / "a.png", LABEL)
    found = inspected(tmp_path, max_pixels=100, exif="apply")
    assert found.doubts == ()
    (record,) = found.records
    assert record.window == (0, 0, 60, 20)
    image, label = read_pair(record, found.manifest)
    np.testing.assert_array_equal(image, upright)
    np.testing.assert_array_equal(label, LABEL)
