"""Files that a decoder reads without complaint, but not as they are stored: refused, or read as stored."""

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pytest
from data.label_images import record_of
from PIL import Image

from seg_transfer.data.bands import read_bands
from seg_transfer.data.containers import find_entries
from seg_transfer.data.decoding import read_raw_values
from seg_transfer.data.encodings import LabelmeLabels
from seg_transfer.data.numbers import read_array
from seg_transfer.data.scenes import forget_scenes
from seg_transfer.errors import DataError

IDS = np.zeros((16, 20), np.uint8)
IDS[3:9, 5:] = 2


def write_tiff(path: Path, values: np.ndarray, **options: object) -> Path:
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file has no geographic position
        with rasterio.open(path, "w", "GTiff", 20, 16, 1, dtype=values.dtype, **options) as file:
            file.write(values, 1)
    return path


@pytest.mark.parametrize("encoding", ["id", "palette", "rgb"])
def test_bmp_of_8_bits_with_a_palette_of_black_and_white(tmp_path: Path, encoding: str) -> None:
    """Pillow takes each of its bytes for 8 pixels."""
    image = Image.fromarray(IDS // 2).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "m.bmp")
    with pytest.raises(DataError, match=r"m\.bmp: a BMP file with a gray palette .* store it as PNG"):
        read_raw_values(tmp_path / "m.bmp", encoding)
    Image.fromarray(IDS * 100).save(tmp_path / "l.bmp")
    np.testing.assert_array_equal(read_raw_values(tmp_path / "l.bmp", "id"), IDS * 100)
    Image.fromarray(IDS > 0).save(tmp_path / "o.bmp")
    np.testing.assert_array_equal(read_raw_values(tmp_path / "o.bmp", "id"), IDS > 0)


def test_tiff_whose_white_is_0(tmp_path: Path) -> None:
    file = write_tiff(tmp_path / "w.tif", IDS, photometric="MINISWHITE")
    with pytest.raises(DataError, match="WhiteIsZero"):
        read_raw_values(file, "id")
    Image.fromarray(IDS > 0).save(tmp_path / "p.pbm")  # here 0 is white by definition
    np.testing.assert_array_equal(read_raw_values(tmp_path / "p.pbm", "id"), IDS > 0)


def test_tiff_of_signed_bytes(tmp_path: Path) -> None:
    values = IDS.astype(np.int8)
    values[0] = -1
    np.testing.assert_array_equal(read_raw_values(write_tiff(tmp_path / "s.tif", values), "id"), values)


def test_bands_of_4_bits_have_no_range(tmp_path: Path) -> None:
    file = write_tiff(tmp_path / "n.tif", IDS, NBITS=4)
    with pytest.raises(DataError, match="bands of 4 bits"):
        read_bands(file, [1])


@pytest.mark.parametrize("encoding", ["id", "palette", "rgb"])
def test_an_animation_is_refused_by_every_encoding(tmp_path: Path, encoding: str) -> None:
    frames = [Image.fromarray(IDS * 100), Image.fromarray(IDS * 50)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="an animation of 2 frames"):
        read_raw_values(tmp_path / "a.gif", encoding)


def test_a_flipped_byte_in_a_compressed_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", np.arange(4000).reshape(50, 80))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    for position in range(60, len(content) - 100, 37):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        (tmp_path / "a.npz").write_bytes(damaged)
        with contextlib.suppress(DataError):  # some bytes do not matter
            read_array(tmp_path / "a.npz")


def test_a_kept_scene_belongs_to_its_labels(tmp_path: Path) -> None:
    """Two manifests that read one file differently do not share what is kept of it."""
    file = tmp_path / "a.json"
    points = [[0, 0], [4, 0], [4, 7], [0, 7]]
    shape = f'{{"label": "car", "points": {points}, "shape_type": "polygon"}}'
    file.write_text(f'{{"shapes": [{shape}], "imageHeight": 8, "imageWidth": 8}}')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    record = record_of(file)
    record = type(record)("a", tmp_path / "a.png", file)
    first = LabelmeLabels(encoding="labelme", names={"car": 0, "cat": 1}, background=0)
    second = LabelmeLabels(encoding="labelme", names={"cat": 1, "car": 0}, background=0)
    forget_scenes()
    window = (0, 0, 8, 8)
    assert [int(each.read_tile(record, window, (8, 8))[0, 0]) for each in (first, second)] == [1, 2]


def test_entries_pair_in_any_unicode_form(tmp_path: Path) -> None:
    found, unpaired, problems = find_entries(tmp_path, ["e\u0301.png"], ["c.json"], lambda _: ("\u00e9.png",))
    assert (found, unpaired, problems) == ({"e\u0301.png": ("c.json", 0)}, [], [])
