"""Decoding and resizing of images."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from data.label_images import RAMP, record_of, with_palette
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seg_transfer.data.images import read_label, resize_to_short_side, short_side_size
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.rgb import read_rgb, read_size
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]


@pytest.fixture
def photo() -> npt.NDArray[np.uint8]:
    """31 x 47: smooth, so that JPEG keeps it, and different in every channel and corner."""
    rows, columns = np.mgrid[0:31, 0:47]
    return np.stack([rows * 7, columns * 5, 40 + rows + 2 * columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_rgb_is_read_exactly(tmp_path: Path, photo: npt.NDArray[np.uint8], suffix: str) -> None:
    Image.fromarray(photo).save(tmp_path / f"a.{suffix}")
    image = read_rgb(tmp_path / f"a.{suffix}")
    assert image.dtype == np.uint8
    assert np.array_equal(image, photo)
    assert read_size(tmp_path / f"a.{suffix}") == (31, 47)


def test_jpeg_keeps_the_channel_order(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - photo).max() <= 4


def test_gray_is_repeated(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(photo[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), np.stack([photo[..., 0]] * 3, axis=2))


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    gray = np.array([[0, 255, 256, 511], [512, 40000, 65279, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(gray).save(tmp_path / f"a.{suffix}")
        image = read_rgb(tmp_path / f"a.{suffix}")
        assert image[..., 0].tolist() == [[0, 0, 1, 1], [2, 156, 254, 255]]
        assert np.array_equal(image[..., 1], image[..., 2])


def test_alpha_is_dropped_and_the_color_below_it_kept(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    alpha = (photo[..., 0] * 3).astype(np.uint8)
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), photo)


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_images_give_their_colors(tmp_path: Path, transparent: bool) -> None:
    with_palette(RAMP, transparent=transparent).save(tmp_path / "a.png")
    expected = [[(37 * (3 * int(index) + c) + 11) % 256 for c in range(3)] for index in RAMP.ravel()]
    assert read_rgb(tmp_path / "a.png").reshape(-1, 3).tolist() == expected


@pytest.mark.parametrize("mode", ["CMYK", "LA", "1"])
def test_other_modes_become_rgb(tmp_path: Path, photo: npt.NDArray[np.uint8], mode: str) -> None:
    Image.fromarray(photo).convert(mode).save(tmp_path / "a.tif")
    assert read_rgb(tmp_path / "a.tif").shape == (31, 47, 3)


def test_exif_orientation_is_not_applied(tmp_path: Path, photo: npt.NDArray[np.uint8], manifest: Manifest) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(RAMP).save(tmp_path / "l.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), photo)
    assert np.array_equal(read_label(record_of(tmp_path / "l.png"), manifest()), RAMP)
    assert read_size(tmp_path / "a.png") == (31, 47)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_files_are_named(tmp_path: Path, photo: npt.NDArray[np.uint8], suffix: str) -> None:
    path = tmp_path / f"broken.{suffix}"
    Image.fromarray(photo).resize((400, 300)).save(path)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.05):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=rf"broken\.{suffix}: cannot be decoded \(.+\); replace the file"):
            read_rgb(path)


def test_a_header_is_enough_for_the_size(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert read_size(tmp_path / "a.png") == (31, 47)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>", encoding="utf-8")
    (tmp_path / "a.eps").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", encoding="utf-8"
    )
    for name in ("a.jpg", "a.eps"):
        with pytest.raises(DataError, match=rf"{name}: cannot be decoded \(cannot identify image file"):
            read_rgb(tmp_path / name)
    with pytest.raises(DataError, match=r"none\.jpg: the file does not exist; add it or exclude it"):
        read_rgb(tmp_path / "none.jpg")
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: floating-point pixels have no agreed range"):
        read_rgb(tmp_path / "f.tif")


def test_an_excessive_size_is_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", 60000, 60000)
    (tmp_path / "a.bmp").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.bmp: cannot be decoded \(Image size"):
        read_rgb(tmp_path / "a.bmp")


# Resizing


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((720, 1280), 144, (144, 256)),
        ((1280, 720), 144, (256, 144)),
        ((227, 320), 144, (144, 203)),  # 202.996
        ((200, 301), 100, (100, 151)),  # 150.5: halves go up
        ((200, 299), 100, (100, 150)),  # 149.5
        ((10, 10), 25, (25, 25)),
        ((3, 1000), 6, (6, 2000)),
    ],
)
def test_short_side_size(size: tuple[int, int], short: int, expected: tuple[int, int]) -> None:
    assert short_side_size(*size, short) == expected
    assert resize_to_short_side(np.zeros((*size, 3), np.uint8), short).shape == (*expected, 3)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000))
def test_short_side_is_exact_and_the_long_one_within_half_a_pixel(height: int, width: int, short: int) -> None:
    new = short_side_size(height, width, short)
    assert min(new) == short
    scale = short / min(height, width)
    assert max(abs(new[0] - scale * height), abs(new[1] - scale * width)) <= 0.5 + 1e-9
    assert short_side_size(width, height, short) == new[::-1]


def test_an_image_of_the_right_size_is_unchanged(photo: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(resize_to_short_side(photo, 31), photo)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize_to_short_side(stripes, 16)[2:-2, 2:-2]
    assert np.abs(small.astype(int) - 100).max() <= 2


def test_enlarging_is_bilinear_between_pixel_centers() -> None:
    row = np.array([0, 80, 40, 200], np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 4, axis=0), 3, axis=2)
    enlarged = resize_to_short_side(image, 8)
    expected = np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), row)
    assert np.abs(enlarged[3, :, 0] - expected).max() <= 0.5
