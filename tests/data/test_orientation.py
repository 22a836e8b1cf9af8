"""The orientation of images, as a whole and in parts."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from seg_transfer.data.images import image_size, read_image
from seg_transfer.data.record import ImageReading, Record
from seg_transfer.data.rgb import read_rgb, read_size
from seg_transfer.errors import DataError

ORIENTATION = 0x0112
COLORS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2


def reading(**fields: Any) -> ImageReading:
    return ImageReading.model_validate(fields)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_or_ignored(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLORS).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        stored, upright = np.asarray(image), np.asarray(ImageOps.exif_transpose(image))
    for wanted, expected in (("apply", upright), ("ignore", stored)):
        record = Record("a", path, path, reading=reading(exif=wanted))
        assert np.array_equal(read_image(record), expected)
        assert image_size(record) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_of_an_upright_image_is_that_part(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=exif)
    whole = read_rgb(tmp_path / "a.png", reading(exif="apply"))
    part = read_rgb(tmp_path / "a.png", reading(exif="apply"), (1, 2, 3, 2))
    assert np.array_equal(part, whole[1:4, 2:4])


def test_exif_data_after_the_pixels_of_a_png_count(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "PNG", exif=exif)
    content = buffer.getvalue()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, last = content[start:end], content.index(b"IEND") - 4
    assert end <= last
    (tmp_path / "a.png").write_bytes(content[:start] + content[end:last] + chunk + content[last:])
    assert read_size(tmp_path / "a.png", reading(exif="apply")) == (7, 5)
    assert np.array_equal(read_rgb(tmp_path / "a.png", reading(exif="apply")), np.rot90(COLORS, -1))


def test_an_orientation_out_of_range_is_none_and_damaged_exif_data_are_named(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "a.png", reading(exif="apply")), COLORS)
    Image.fromarray(COLORS).save(tmp_path / "b.png", exif=b"Exif\0\0nonsense")
    assert np.array_equal(read_rgb(tmp_path / "b.png"), COLORS)
    with pytest.raises(DataError, match=r"b\.png: its EXIF data cannot be read .*--exif ignore"):
        read_rgb(tmp_path / "b.png", reading(exif="apply"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_tiff_files_is_always_applied(tmp_path: Path, orientation: int) -> None:
    """Pillow does so, and what rasterio reads must agree with it."""
    path = tmp_path / "a.tif"
    Image.fromarray(COLORS).save(path, tiffinfo={ORIENTATION: orientation})
    upright = read_rgb(path)
    assert read_size(path) == upright.shape[:2]
    for stated in (reading(exif="apply"), reading(range=[0, 255]), reading(bands=[1, 2, 3])):
        assert np.array_equal(read_rgb(path, stated), upright)
        assert np.array_equal(read_rgb(path, stated, (1, 2, 3, 2)), upright[1:4, 2:4])
        assert read_size(path, stated) == upright.shape[:2]
