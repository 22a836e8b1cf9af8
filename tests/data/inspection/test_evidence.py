"""What one mask, or one image, shows."""

from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data.inspection.masks import Held, blocks, disks, encoded, seen
from data.label_images import RAMP, with_palette
from data.png_bits import gray_png
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from seg_transfer.data.inspection import evidence
from seg_transfer.data.inspection.evidence import look_at_image, look_at_images, look_at_mask
from seg_transfer.data.inspection.statistics import count_values, edges_of
from seg_transfer.errors import DataError


def test_solid_pixels_by_hand() -> None:
    raw = np.array([[5, 5, 1, 1], [5, 5, 1, 2], [3, 3, 3, 3], [9, 9, 3, 3]], np.uint8)
    counts, n_values = count_values(raw)
    assert n_values == 5
    assert counts == {1: (3, 0), 2: (1, 0), 3: (6, 4), 5: (4, 4), 9: (2, 0)}


def test_edges_steps_and_blends_by_hand() -> None:
    raw = np.array([[0, 1, 2, 2, 5], [0, 1, 2, 2, 255]], np.uint8)
    # Along rows: 1 lies between 0 and 2, twice, which makes 4 edges; 2 beside 5 is another one and a step, and 255 is
    # left out. Nothing along columns.
    assert edges_of(raw) == (5, 1, 2)


@settings(max_examples=40)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-2, 3)))
def test_counts_equal_a_loop(raw: np.ndarray) -> None:
    height, width = raw.shape
    solid = np.zeros(raw.shape, bool)
    for row in range(height - 1):
        for column in range(width - 1):
            block = raw[row : row + 2, column : column + 2]
            solid[row : row + 2, column : column + 2] |= (block == block[0, 0]).all()
    values = np.unique(raw).tolist()
    expected = {value: (int((raw == value).sum()), int(solid[raw == value].sum())) for value in values}
    for scale in (1, 100_000):
        counts, _ = count_values(raw * scale)
        assert counts == {value * scale: count for value, count in expected.items()}


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_gray_of_every_depth(bits: int) -> None:
    mask = look_at_mask(gray_png(blocks(0, 1, 2**bits - 1, dtype=np.int64), bits), "m.png")
    assert (mask.kind, mask.bits, mask.size) == ("gray", bits, (8, 24))
    pixels = {value: count.pixels for value, count in mask.values.items()}
    assert pixels == ({0: 64, 1: 128} if bits == 1 else {0: 64, 1: 64, 2**bits - 1: 64})


@pytest.mark.parametrize(("mode", "channels", "has_alpha"), [("RGB", 3, False), ("RGBA", 3, True), ("LA", 1, True)])
def test_gray_in_channels(mode: str, channels: int, has_alpha: bool) -> None:
    mask = seen(Image.fromarray(RAMP).convert(mode))
    assert (mask.kind, mask.channels, mask.has_alpha) == ("gray", channels, has_alpha)
    assert {value: count.pixels for value, count in mask.values.items()} == {0: 3, 1: 3, 2: 4, 255: 2}


def test_colors() -> None:
    mask = seen(np.array([[[1, 2, 3], [1, 2, 3]], [[9, 9, 9], [0, 0, 255]]], np.uint8))
    assert mask.kind == "colors"
    assert mask.values == {1 + 512 + 3 * 65536: (2, 0), 9 * 65793: (1, 0), 255 * 65536: (1, 0)}
    assert (mask.n_steps, mask.n_blends) == (0, 0)


def test_a_palette_is_of_used_indices() -> None:
    mask = seen(with_palette(RAMP))
    assert mask.kind == "palette"
    # Channel i of the palette is 37 i + 11.
    assert mask.palette == {
        index: tuple((37 * (3 * index + k) + 11) % 256 for k in range(3)) for index in (0, 1, 2, 255)
    }
    assert sum(count.pixels for count in mask.values.values()) == RAMP.size


def test_a_gray_ramp_as_palette_is_gray() -> None:
    picture = with_palette(RAMP)
    picture.putpalette([value for value in range(256) for _ in range(3)])
    assert seen(picture).kind == "gray"
    assert seen(Image.fromarray(blocks(0, 90, 255)), "m.gif").values.keys() == {0, 90, 255}
    assert seen(Image.fromarray(blocks(0, 90, 255)), "m.gif").kind == "gray"


def test_loss_is_in_the_format() -> None:
    picture = Image.fromarray(disks(200))
    assert seen(picture, "m.jpg").is_lossy
    assert seen(picture, "m.tif", compression="jpeg").is_lossy
    assert seen(picture, "m.webp", quality=80).is_lossy
    assert not seen(picture, "m.webp", lossless=True).is_lossy
    assert not seen(picture, "m.tif", compression="tiff_lzw").is_lossy


def test_arrays() -> None:
    content = BytesIO()
    np.save(content, blocks(-1, 3, dtype=np.int16))
    mask = look_at_mask(content.getvalue(), "m.npy")
    assert (mask.kind, mask.bits, mask.values) == ("array", 16, {-1: (64, 64), 3: (64, 64)})


def test_a_transparent_mask_is_wrong(tmp_path: Path) -> None:
    pixels = np.dstack([blocks(0, 1)] * 4)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: alpha is 0 at row 0, column 0; .* store it without alpha"):
        look_at_mask(tmp_path / "m.png")


def test_of_a_scene_the_center_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_PIXELS", 16)
    scene = np.zeros((9, 12), np.uint8)
    scene[2:6, 4:8] = np.arange(16).reshape(4, 4)
    Image.fromarray(scene).save(tmp_path / "m.tif", compression="tiff_lzw")
    mask = look_at_mask(tmp_path / "m.tif")
    assert (mask.size, mask.format) == ((9, 12), "TIFF")
    assert {value: count.pixels for value, count in mask.values.items()} == dict.fromkeys(range(16), 1)
    with pytest.raises(DataError, match="9 x 12 pixels; store label maps of this size as files, not in a table"):
        look_at_mask(Held((tmp_path / "m.tif").read_bytes()), "row 3")


# Images


def test_an_image_of_eight_bits() -> None:
    image = look_at_image(Held(encoded(Image.fromarray(np.dstack([disks(200)] * 3)), "JPEG")), "i.jpg")
    assert (image.size, image.bits, image.n_bands, image.orientation) == ((96, 96), 8, 3, 1)
    assert (image.highest, image.is_constant) == (None, False)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_orientation_in_exif(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    content = encoded(Image.new("RGB", (6, 4), (1, 2, 3)), "JPEG", exif=exif)
    image = look_at_image(Held(content))
    assert (image.orientation, image.size, image.is_constant) == (orientation, (4, 6), True)


def test_deep_images_are_decoded() -> None:
    image = look_at_image(Held(gray_png(blocks(7, 1023, dtype=np.int64), 16)))
    assert (image.bits, image.lowest, image.highest, image.is_constant) == (16, 7, 1023, False)
    floats = look_at_image(Held(encoded(Image.fromarray(np.array([[0.5, np.nan, 2]], np.float32)), "TIFF")))
    assert (floats.is_float, floats.lowest, floats.highest) == (True, 0.5, 2)


@pytest.mark.parametrize(("values", "is_constant"), [((0, 9, 255, 7), None), ((0, 256, 9, 7), False)])
def test_dark_images_of_several_deep_channels_are_not_called_constant(
    values: tuple[int, ...], is_constant: bool | None
) -> None:
    """Of such channels, only the high bytes are decoded."""
    content = gray_png(blocks(*values, side=3, dtype=np.int64), 16, channels=3)
    image = look_at_image(Held(content))
    assert (image.bits, image.size, image.is_constant) == (16, (3, 4), is_constant)


def test_pixels_are_decoded_until_one_image_is_not_constant() -> None:
    flat, drawn = Held(encoded(Image.new("L", (4, 4), 9))), Held(encoded(Image.fromarray(disks(9))))
    looked = look_at_images({"a": flat, "b": drawn, "c": flat})
    assert [image.is_constant for image in looked] == [True, False, None]


def test_many_bands() -> None:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.MemoryFile() as memory:
        transform = rasterio.Affine.scale(2)
        with memory.open(driver="GTiff", width=3, height=2, count=5, dtype="uint16", transform=transform) as file:
            file.write(np.arange(30, dtype=np.uint16).reshape(5, 2, 3))
        image = look_at_image(Held(memory.read()), "i.tif")
    assert (image.size, image.n_bands, image.bits, image.lowest, image.highest) == ((2, 3), 5, 16, 0, 29)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "i.png").write_text("text")
    with pytest.raises(DataError, match=r"i\.png: cannot be decoded"):
        look_at_image(tmp_path / "i.png")
    with pytest.raises(DataError, match=r"absent\.png: the file does not exist"):
        look_at_image(tmp_path / "absent.png")


@settings(max_examples=60)
@given(
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 6)),
    st.sampled_from([(np.uint8, 255), (np.uint16, 65535), (np.int8, -1), (np.int64, 100_000)]),
)
def test_edges_equal_a_loop(raw: np.ndarray, kind: tuple[type, int]) -> None:
    dtype, highest = kind
    mask = np.where(raw == 6, highest, raw).astype(dtype)
    n_edges = n_steps = n_blends = 0
    for line in [*mask.tolist(), *mask.T.tolist()]:
        n_edges += sum(a != b and not {a, b} & {255, 65535} for a, b in pairwise(line))
        n_steps += sum(abs(a - b) >= 2 and not {a, b} & {255, 65535} for a, b in pairwise(line))
        triples = zip(line, line[1:], line[2:], strict=False)
        n_blends += sum((a < b < c or a > b > c) and not {a, b, c} & {255, 65535} for a, b, c in triples)
    assert edges_of(mask) == (n_edges, n_steps, n_blends)
