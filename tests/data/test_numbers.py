"""Label maps with one number per pixel: the numbers as stored, in every format."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.png_bits import gray_png
from PIL import Image

from seg_transfer.data.decoding import read_raw_values
from seg_transfer.errors import DataError

IDS = np.array([[0, 1, 1, 3], [2, 3, 0, 1], [1, 0, 2, 3]], np.uint8)


def read(path: Path, encoding: str = "id") -> list[list[int]]:
    return read_raw_values(path, encoding).tolist()


@pytest.mark.parametrize("encoding", ["id", "palette"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_png_of_every_depth(tmp_path: Path, bits: int, encoding: str) -> None:
    values = np.arange(40).reshape(5, 8) * 7 % 2**bits
    (tmp_path / "l.png").write_bytes(gray_png(values, bits))
    assert read(tmp_path / "l.png", encoding) == values.tolist()


@pytest.mark.parametrize(
    ("header", "content", "values"),
    [
        (b"P5 4 1 7\n", bytes([0, 1, 6, 7]), [0, 1, 6, 7]),
        (b"P5 3 1 1000\n", bytes([0, 0, 0, 9, 3, 232]), [0, 9, 1000]),
    ],
)
def test_pgm_with_any_maximum(tmp_path: Path, header: bytes, content: bytes, values: list[int]) -> None:
    (tmp_path / "l.pgm").write_bytes(header + content)
    assert read(tmp_path / "l.pgm") == [values]


@pytest.mark.parametrize(("suffix", "options"), [("gif", {}), ("bmp", {}), ("webp", {"lossless": True}), ("tif", {})])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_formats(tmp_path: Path, suffix: str, options: dict[str, Any], mode: str) -> None:
    path = tmp_path / f"l.{suffix}"
    Image.fromarray(IDS * 80).convert(mode).save(path, **options)
    assert read(path) == (IDS * 80).tolist()


@pytest.mark.parametrize("values", [[[0.0, 300.0, -1.0]], [[70000.0, 1.0, 2.0]]])
def test_floats_that_are_whole(tmp_path: Path, values: list[list[float]]) -> None:
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "l.tif")
    assert read(tmp_path / "l.tif") == values


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, 2.0**30])
def test_floats_that_are_no_ids(tmp_path: Path, value: float) -> None:
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = value
    Image.fromarray(values).save(tmp_path / "l.tif")
    with pytest.raises(DataError, match=r"l\.tif: .* at row 1, column 2 is not a whole number; store class ids"):
        read(tmp_path / "l.tif")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colored_pixel_is_located(tmp_path: Path, mode: str) -> None:
    pixels = np.repeat(IDS[..., None], 3, axis=2)
    pixels[1, 3] = 3, 3, 4
    pixels[2, 0] = 9, 0, 0
    Image.fromarray(pixels).convert(mode).save(tmp_path / "l.png")
    with pytest.raises(DataError, match=r"l\.png: color \(3, 3, 4\) at row 1, column 3 is not gray"):
        read(tmp_path / "l.png")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_no_labels(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(IDS).convert(mode)
    image.putpixel((2, 1), (*image.getpixel((2, 1))[:-1], 254))
    image.save(tmp_path / "l.png")
    with pytest.raises(DataError, match=r"alpha is 254 at row 1, column 2; .* store it without alpha"):
        read(tmp_path / "l.png")


def test_sixteen_bit_channels_lose_their_low_bytes(tmp_path: Path) -> None:
    import rasterio

    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="PNG", width=4, height=3, count=3, dtype="uint16", transform=rasterio.Affine.scale(2)
        ) as file:
            file.write(np.repeat(IDS[None].astype(np.uint16), 3, axis=0))
        (tmp_path / "l.png").write_bytes(memory.read())
    with pytest.raises(DataError, match=r"l\.png: 16 bits in each of several channels; store the label map as 16-bit"):
        read(tmp_path / "l.png")


def test_an_animation_is_no_label_map(tmp_path: Path) -> None:
    frames = [Image.fromarray(IDS * scale) for scale in (80, 40)]
    frames[0].save(tmp_path / "l.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"l\.gif: an animation of 2 frames; store one image per label map"):
        read(tmp_path / "l.gif")


def test_other_color_spaces_are_refused(tmp_path: Path) -> None:
    Image.fromarray(IDS).convert("CMYK").save(tmp_path / "l.tif")
    with pytest.raises(DataError, match=r"l\.tif: an image of mode 'CMYK' cannot be a label map"):
        read(tmp_path / "l.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64, np.float64, np.uint16, np.float16])
@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_arrays(tmp_path: Path, dtype: type, n_dimensions: int) -> None:
    array = IDS.astype(dtype) if n_dimensions == 2 else IDS.astype(dtype)[None]
    np.save(tmp_path / "l.npy", array)
    np.savez(tmp_path / "l.npz", array)
    assert read(tmp_path / "l.npy") == read(tmp_path / "l.npz") == IDS.tolist()


def test_arrays_of_truth_values_and_negative_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", IDS > 1)
    np.save(tmp_path / "n.npy", IDS.astype(np.int16) - 1)
    assert read(tmp_path / "b.npy") == (IDS > 1).astype(int).tolist()
    assert read(tmp_path / "n.npy") == (IDS.astype(int) - 1).tolist()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((3, 4, 4)), "an array of 3 x 4 x 4; a label map is an array of height x width"),
        (np.zeros(()), "an array of no dimensions"),
        (np.zeros((0, 4)), "an array of 0 x 4"),
        (np.array([["a"]]), "holds <U1, not numbers"),
        (np.array([[{}]], object), "cannot be read as an array"),
        (np.array([[0, 0.5]]), "0.5 at row 0, column 1 is not a whole number"),
    ],
)
def test_arrays_that_are_no_label_maps(tmp_path: Path, array: Any, text: str) -> None:
    np.save(tmp_path / "l.npy", array, allow_pickle=True)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "l.npy")
    assert str(caught.value).startswith(f"{tmp_path / 'l.npy'}: {text}")


def test_broken_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", IDS, IDS)
    content = BytesIO()
    np.save(content, IDS)
    (tmp_path / "short.npy").write_bytes(content.getvalue()[:-3])
    (tmp_path / "text.npz").write_text("text")
    for name, text in {
        "two.npz": "holds 2 arrays; store one",
        "short.npy": "cannot be read as an array",
        "text.npz": "cannot be read as an array",
        "absent.npy": "the file does not exist",
    }.items():
        with pytest.raises(DataError, match=rf"{name}: {text}"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"two\.npz: an array holds numbers, not colors; declare labels.encoding: id"):
        read(tmp_path / "two.npz", "rgb")


def test_arrays_of_any_claimed_size_end_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
    (tmp_path / "l.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"l\.npy: cannot be read as an array \("):
        read_raw_values(tmp_path / "l.npy", "id")
    np.savez_compressed(tmp_path / "l.npz", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr("seg_transfer.data.numbers._MAX_UNPACKED", 10_000)
    with pytest.raises(DataError, match=r"l\.npz: is larger than .* when unpacked"):
        read_raw_values(tmp_path / "l.npz", "id")
