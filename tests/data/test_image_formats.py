"""Images of every kind: bands, ranges of values, and files that rasterio reads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from seg_transfer.data import bands as bands_module
from seg_transfer.data.channels import to_bytes
from seg_transfer.data.record import ImageReading
from seg_transfer.data.rgb import read_rgb, read_size
from seg_transfer.errors import DataError

COLORS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2


def reading(**fields: Any) -> ImageReading:
    return ImageReading.model_validate(fields)


def write_tiff(path: Path, values: npt.NDArray[Any], **options: Any) -> Path:
    """A TIFF file with the bands (B, H, W)."""
    n_bands, height, width = values.shape
    shape = {"count": n_bands, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
        file.write(values)
    return path


def write_png16(path: Path, values: npt.NDArray[np.uint16]) -> Path:
    n_bands, height, width = values.shape
    with rasterio.open(path, "w", driver="PNG", count=n_bands, height=height, width=width, dtype="uint16") as file:
        file.write(values)
    return path


def gray(numbers: list[Any], dtype: str) -> npt.NDArray[Any]:
    return np.array([[numbers]], dtype)


# Ranges


def test_a_range_is_linear_rounds_halves_up_and_clips() -> None:
    # 255 / 510 = 0.5 per step
    assert to_bytes(np.array([-1, 0, 1, 2, 3, 509, 510, 900], np.int16), (0, 510)).tolist() == [
        0,
        0,
        1,
        1,
        2,
        255,
        255,
        255,
    ]
    assert to_bytes(np.array([-100, -50, 0]), (-100, 0)).tolist() == [0, 128, 255]
    floats = np.array([np.nan, -np.inf, 0.25, 0.5, np.inf, -9999], np.float32)
    assert to_bytes(floats, (0, 1), nodata=-9999).tolist() == [0, 0, 64, 128, 255, 0]


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "i4", "u4", "f4", "f8"])
def test_every_type_of_number_gives_the_same_bytes(dtype: str) -> None:
    numbers = np.arange(0, 101)
    expected = [int(number * 255 / 100 + 0.5) for number in range(101)]
    assert to_bytes(numbers.astype(dtype), (0, 100)).tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "numbers", "nodata", "value_range", "expected"),
    [
        ("uint16", [0, 1000, 2047, 4095], None, (0, 4095), [0, 62, 127, 255]),
        ("int16", [-32768, -100, 0, 100], -32768, (-100, 100), [0, 0, 128, 255]),
        ("int32", [-1, 0, 100_000, 200_000], -1, (0, 200_000), [0, 0, 128, 255]),
        ("uint32", [0, 2**31, 2**32 - 1, 7], 7, (0, 2**32 - 1), [0, 128, 255, 0]),
        ("float32", [np.nan, 0.1, 0.5, 1.5], np.float32(0.1), (0, 1), [0, 0, 128, 255]),
    ],
)
def test_numbers_of_a_tiff_file_on_a_range(
    tmp_path: Path, dtype: str, numbers: list[float], nodata: float | None, value_range: Any, expected: list[int]
) -> None:
    path = write_tiff(tmp_path / "a.tif", gray(numbers, dtype), nodata=nodata)
    image = read_rgb(path, reading(range=value_range))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[value] * 3 for value in expected]]
    assert read_size(path, reading(range=value_range)) == (1, 4)


def test_sixteen_bits_per_color_of_a_png_keep_their_low_byte_where_a_range_is_stated(tmp_path: Path) -> None:
    values = np.array([[[0, 1023]], [[512, 100]], [[255, 256]]], np.uint16)
    path = write_png16(tmp_path / "a.png", values)
    assert read_rgb(path, reading(range=[0, 1023])).tolist() == [[[0, 128, 64], [255, 25, 64]]]
    assert read_rgb(path, reading(range=[0, 1023]), (0, 1, 1, 1)).tolist() == [[[255, 25, 64]]]
    assert read_rgb(path).tolist() == [[[0, 2, 0], [3, 0, 1]]]  # the high byte, as before


def test_sixteen_bit_gray_needs_no_library_for_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_rasterio(monkeypatch)
    Image.fromarray(np.array([[0, 2048, 4095, 9]], np.uint16)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png", reading(range=[0, 4095]))[..., 1].tolist() == [[0, 128, 255, 1]]


def test_eight_bits_on_a_range_beyond_them_are_refused(tmp_path: Path) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png", reading(range=[0, 255])).tolist() == COLORS.tolist()
    with pytest.raises(DataError, match=r"a\.png: has 8 bits per band, but images\.range ends at 4095.*--range"):
        read_rgb(tmp_path / "a.png", reading(range=[0, 4095]))


def test_numbers_without_an_agreed_range_need_one(tmp_path: Path) -> None:
    for dtype in ("float32", "int16", "uint32"):
        path = write_tiff(tmp_path / "a.tif", gray([0, 1], dtype))
        with pytest.raises(DataError, match=rf"a\.tif: {dtype} numbers have no agreed range; .*images\.range"):
            read_rgb(path, reading(bands=[1, 1, 1]))
    with pytest.raises(DataError, match=r"a\.tif: complex numbers"):
        read_rgb(write_tiff(tmp_path / "a.tif", gray([1j], "complex64")), reading(range=[0, 1]))


# Bands


def test_bands_of_a_tiff_file_with_many(tmp_path: Path) -> None:
    values = np.stack([np.full((2, 3), 10 * band, np.uint8) for band in range(1, 8)])
    path = write_tiff(tmp_path / "a.tif", values)
    assert read_rgb(path, reading(bands=[3, 2, 1])).tolist() == [[[30, 20, 10]] * 3] * 2
    assert read_rgb(path, reading(bands=[7, 7, 2])).tolist() == [[[70, 70, 20]] * 3] * 2
    assert read_size(path, reading(bands=[3, 2, 1])) == (2, 3)
    with pytest.raises(DataError, match=r"a\.tif: images\.bands names band 8, but the file has 7; .*--bands"):
        read_rgb(path, reading(bands=[8, 2, 1]))
    with pytest.raises(DataError, match=r"a\.tif: has 7 bands; state .* as images\.bands \(--bands 1,2,3\)"):
        read_rgb(path, reading(range=[0, 255]))
    for read in (read_rgb, read_size):
        with pytest.raises(
            DataError, match=r"a\.tif: is a TIFF file that can only be read by band; state .*--bands 1,2,3"
        ):
            read(path)


def test_bands_and_a_range_together(tmp_path: Path) -> None:
    values = np.stack([np.full((1, 1), value, np.uint16) for value in (1000, 2000, 3000, 500)])
    path = write_tiff(tmp_path / "a.tif", values, photometric="RGB")
    assert read_rgb(path, reading(bands=[4, 3, 1], range=[0, 3000])).tolist() == [[[43, 255, 85]]]
    assert read_rgb(path, reading(bands=[4, 3, 1])).tolist() == [[[1, 11, 3]]]  # the high byte
    assert read_rgb(path, reading(range=[0, 4000])).tolist() == [[[64, 128, 191]]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
def test_bands_of_ordinary_images(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLORS).save(path)
    assert np.array_equal(read_rgb(path, reading(bands=[3, 2, 1])), read_rgb(path)[..., ::-1])
    with pytest.raises(DataError, match=r"images\.bands names band 5, but the file has 3"):
        read_rgb(path, reading(bands=[5, 2, 1]))


def test_the_fourth_channel_of_a_png_is_a_band(tmp_path: Path) -> None:
    alpha = np.full((5, 7), 99, np.uint8)
    Image.fromarray(np.dstack([COLORS, alpha])).save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png", reading(bands=[4, 1, 2]))[..., 0] == 99).all()
    assert np.array_equal(read_rgb(tmp_path / "a.png", reading(range=[0, 255])), COLORS)


def test_an_alpha_band_beside_gray_is_dropped_and_another_second_band_is_not(tmp_path: Path) -> None:
    values = np.array([[[5, 6]], [[255, 0]]], np.uint8)
    alpha = write_tiff(tmp_path / "alpha.tif", values)
    with rasterio.open(alpha, "r+") as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    assert read_rgb(alpha, reading(range=[0, 255])).tolist() == [[[5] * 3, [6] * 3]]
    other = write_tiff(tmp_path / "other.tif", values)
    with rasterio.open(other, "r+") as file:
        file.colorinterp = [ColorInterp.gray, ColorInterp.undefined]
    with pytest.raises(DataError, match=r"other\.tif: has 2 bands; state"):
        read_rgb(other, reading(range=[0, 255]))


def test_bands_that_are_no_light_are_refused(tmp_path: Path) -> None:
    write_tiff(tmp_path / "cmyk.tif", np.zeros((4, 1, 1), np.uint16), photometric="CMYK")
    Image.fromarray(COLORS).convert("P").save(tmp_path / "palette.tif")
    write_tiff(tmp_path / "inverted.tif", gray([1, 2], "uint8"), photometric="MINISWHITE")
    for name, kind in (("cmyk", "black, cyan"), ("palette", "palette"), ("inverted", "inverted gray")):
        with pytest.raises(DataError, match=rf"{name}\.tif: its bands are {kind}.*neither images\.bands nor"):
            read_rgb(tmp_path / f"{name}.tif", reading(range=[0, 255]))


# Other formats


def test_gif_images_give_the_colors_of_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), color, np.uint8)) for color in ((250, 0, 0), (0, 0, 250))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_rgb(tmp_path / "a.gif").tolist() == [[[250, 0, 0]] * 4] * 4


def test_webp_without_loss_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(COLORS).save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(read_rgb(tmp_path / "a.webp"), COLORS)
    flat = Image.new("RGB", (8, 8), (200, 100, 50)).convert("CMYK")
    flat.save(tmp_path / "a.jpg", quality=100)
    flat.save(tmp_path / "a.tif")
    assert read_rgb(tmp_path / "a.tif", reading(range=[0, 255])).tolist() == [[[200, 100, 50]] * 8] * 8
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - (200, 100, 50)).max() <= 3


# rasterio


def without_rasterio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr(bands_module, "find_spec", lambda name: None)


def test_without_rasterio_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "a.tif", np.zeros((5, 4, 4), np.uint8))
    Image.fromarray(COLORS).save(tmp_path / "b.tif")
    without_rasterio(monkeypatch)
    with pytest.raises(DataError, match=r'a\.tif: .*pip install "seg_transfer\[formats\]"$'):
        read_rgb(path, reading(bands=[1, 2, 3]))
    assert np.array_equal(read_rgb(tmp_path / "b.tif"), COLORS)


def test_files_beside_an_image_are_neither_read_nor_written(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    path = write_tiff(tmp_path / "a.tif", values, nodata=None)
    expected = read_rgb(path, reading(range=[0, 255]))
    nodata = "<PAMDataset><PAMRasterBand band='1'><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>"
    (tmp_path / "a.tif.aux.xml").write_text(nodata)
    (tmp_path / "a.tif.ovr").write_bytes(b"no overview")
    (tmp_path / "a.tif.msk").write_bytes(path.read_bytes())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert np.array_equal(read_rgb(path, reading(range=[0, 255])), expected)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_virtual_file_that_points_elsewhere_is_not_followed(tmp_path: Path) -> None:
    write_tiff(tmp_path / "secret.tif", gray([1], "uint8"))
    vrt = (
        "<VRTDataset rasterXSize='1' rasterYSize='1'><VRTRasterBand dataType='Byte' band='1'><SimpleSource>"
        "<SourceFilename>secret.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (tmp_path / "a.tif").write_text(vrt)
    with pytest.raises(DataError, match=r"a\.tif: is not a TIFF or PNG file"):
        bands_module.read_bands(tmp_path / "a.tif", [1])
    with pytest.raises(DataError, match="is not a TIFF or PNG file on this machine"):
        bands_module.read_bands(Path("/vsicurl/http:/localhost/a.tif"), [1])


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_truncated_files_are_named(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 4000, (5, 64, 64), dtype=np.uint16)
    path = write_tiff(tmp_path / "a.tif", noise, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"a\.tif: cannot be decoded \(.+\); replace the file") as caught:
        read_rgb(path, reading(bands=[1, 2, 3], range=[0, 4000]))
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_is_said_about_missing_coordinates(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", gray([1, 2], "uint16"))
    code = (
        "from pathlib import Path; from seg_transfer.data.rgb import read_rgb; from seg_transfer.data.record import "
        f"ImageReading; print(read_rgb(Path({str(path)!r}), ImageReading(range=(0, 2))).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[[[128, 128, 128], [255, 255, 255]]]", "")


@pytest.mark.parametrize("name", ["ä ö.tif", "a#b?c.tif", "a&b=1.tif", f"{'x' * 240}.tif"])
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    path = write_tiff(tmp_path / "plain.tif", gray([2], "uint16")).rename(tmp_path / name)
    assert read_rgb(path, reading(range=[0, 2])).tolist() == [[[255] * 3]]
