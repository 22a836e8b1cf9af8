import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from seg_transfer.data.images import (
    read_image,
    read_label,
    read_pair,
    read_size,
    resize_to_short_side,
    short_side_size,
)
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import Record
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]
RAMP = np.array([[0, 1, 2, 255], [2, 2, 0, 1], [1, 0, 255, 2]], np.uint8)
COLOURS = np.array([[250, 3, 3], [3, 250, 3], [3, 3, 250]], np.uint8)
UNLABELLED = (7, 8, 9)


def coloured(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The label map painted with ``COLOURS``; ignored pixels become ``UNLABELLED``."""
    image = np.array([*COLOURS, UNLABELLED], np.uint8)
    return image[np.where(label == 255, 3, label)]


def rgb_labels(**changes: object) -> dict[str, object]:
    return {"encoding": "rgb", "colours": COLOURS.tolist(), "ignore": [list(UNLABELLED)]} | changes


def with_palette(label: npt.NDArray[np.uint8], *, transparent: bool = False) -> Image.Image:
    """A palette image whose colours say nothing about its indices."""
    image = Image.fromarray(label).convert("P")
    image.putdata(label.ravel().tolist())
    image.putpalette([(37 * i + 11) % 256 for i in range(768)])
    if transparent:
        image.info["transparency"] = bytes(range(256))
    return image


# Images


@pytest.fixture
def photo() -> npt.NDArray[np.uint8]:
    """31 x 47: smooth, so that JPEG keeps it, and different in every channel and corner."""
    rows, columns = np.mgrid[0:31, 0:47]
    return np.stack([rows * 7, columns * 5, 40 + rows + 2 * columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_lossless_rgb_is_read_as_it_is(tmp_path: Path, photo: npt.NDArray[np.uint8], suffix: str) -> None:
    Image.fromarray(photo).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.dtype == np.uint8
    assert np.array_equal(image, photo)
    assert read_size(tmp_path / f"a.{suffix}") == (31, 47)


def test_jpeg_keeps_the_channel_order(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - photo).max() <= 4


def test_grey_is_repeated(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(photo[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.stack([photo[..., 0]] * 3, axis=2))


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    grey = np.array([[0, 255, 256, 511], [512, 40000, 65279, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
        image = read_image(tmp_path / f"a.{suffix}")
        assert image[..., 0].tolist() == [[0, 0, 1, 1], [2, 156, 254, 255]]
        assert np.array_equal(image[..., 1], image[..., 2])


def test_alpha_is_dropped_and_the_colour_below_it_kept(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    alpha = (photo[..., 0] * 3).astype(np.uint8)
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), photo)


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_images_give_their_colours(tmp_path: Path, transparent: bool) -> None:
    with_palette(RAMP, transparent=transparent).save(tmp_path / "a.png")
    expected = [[(37 * (3 * int(index) + c) + 11) % 256 for c in range(3)] for index in RAMP.ravel()]
    assert read_image(tmp_path / "a.png").reshape(-1, 3).tolist() == expected


@pytest.mark.parametrize("mode", ["CMYK", "LA", "1"])
def test_other_modes_become_rgb(tmp_path: Path, photo: npt.NDArray[np.uint8], mode: str) -> None:
    Image.fromarray(photo).convert(mode).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").shape == (31, 47, 3)


def test_exif_orientation_is_not_applied(tmp_path: Path, photo: npt.NDArray[np.uint8], manifest: Manifest) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(RAMP).save(tmp_path / "l.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), photo)
    assert np.array_equal(read_label(tmp_path / "l.png", manifest()), RAMP)
    assert read_size(tmp_path / "a.png") == (31, 47)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_files_are_named(tmp_path: Path, photo: npt.NDArray[np.uint8], suffix: str) -> None:
    path = tmp_path / f"broken.{suffix}"
    Image.fromarray(photo).resize((400, 300)).save(path)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.05):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=rf"broken\.{suffix}: cannot be decoded \(.+\); replace the file"):
            read_image(path)


def test_a_header_is_enough_for_the_size(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert read_size(tmp_path / "a.png") == (31, 47)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>", encoding="utf-8")
    (tmp_path / "a.eps").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", encoding="utf-8"
    )
    for name in ("a.jpg", "a.eps"):
        with pytest.raises(DataError, match=rf"{name}: cannot be decoded \(cannot identify image file"):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match=r"none\.jpg: the file does not exist; add it or exclude it"):
        read_image(tmp_path / "none.jpg")
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif: floating-point pixels have no agreed range"):
        read_image(tmp_path / "f.tif")


def test_a_size_that_no_memory_holds(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", 60000, 60000)
    (tmp_path / "a.bmp").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.bmp: cannot be decoded \(Image size"):
        read_image(tmp_path / "a.bmp")


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


def test_an_image_of_the_right_size_stays(photo: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(resize_to_short_side(photo, 31), photo)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize_to_short_side(stripes, 16)[2:-2, 2:-2]
    assert np.abs(small.astype(int) - 100).max() <= 2


def test_enlarging_is_bilinear_between_pixel_centres() -> None:
    row = np.array([0, 80, 40, 200], np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 4, axis=0), 3, axis=2)
    enlarged = resize_to_short_side(image, 8)
    expected = np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), row)
    assert np.abs(enlarged[3, :, 0] - expected).max() <= 0.5


# Label maps


def test_grey_ids(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(RAMP).save(tmp_path / "l.png")
    label = read_label(tmp_path / "l.png", manifest())
    assert label.dtype == np.uint8
    assert np.array_equal(label, RAMP)


def test_one_bit_ids(tmp_path: Path, manifest: Manifest) -> None:
    mask = np.array([[0, 1, 1], [1, 0, 0]], bool)
    Image.fromarray(mask).save(tmp_path / "l.png")
    assert read_label(tmp_path / "l.png", manifest()).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_many_values_to_one_class(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.array([[9, 7, 0], [8, 9, 3]], np.uint8)).save(tmp_path / "l.png")
    labels = {"encoding": "id", "ignore": [0, 3], "map": {7: 2, 8: 0, 9: 2}}
    assert read_label(tmp_path / "l.png", manifest(labels=labels)).tolist() == [[2, 2, 255], [0, 2, 255]]


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_gives_the_index(tmp_path: Path, manifest: Manifest, transparent: bool) -> None:
    palette = manifest(labels={"encoding": "palette", "ignore": [255]})
    with_palette(RAMP, transparent=transparent).save(tmp_path / "p.png")
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    assert np.array_equal(read_label(tmp_path / "p.png", palette), RAMP)
    assert np.array_equal(read_label(tmp_path / "grey.png", palette), RAMP)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_palettes_are_not_stretched(tmp_path: Path, manifest: Manifest, bits: int) -> None:
    label = np.array([[0, 1, 1], [1, 0, 1]], np.uint8) if bits == 1 else np.array([[0, 1, 2], [2, 0, 1]], np.uint8)
    with_palette(label).save(tmp_path / "p.png", bits=bits)
    palette = manifest(labels={"encoding": "palette"})
    assert np.array_equal(read_label(tmp_path / "p.png", palette), label)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_ids(tmp_path: Path, manifest: Manifest, suffix: str) -> None:
    raw = np.array([[300, 65535, 0], [44, 300, 0]], np.uint16)
    Image.fromarray(raw).save(tmp_path / f"l.{suffix}")
    labels = {"encoding": "id16", "ignore": [0], "map": {300: 0, 65535: 1, 44: 2}}
    assert read_label(tmp_path / f"l.{suffix}", manifest(labels=labels)).tolist() == [[0, 1, 255], [2, 0, 255]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours(tmp_path: Path, manifest: Manifest, mode: str) -> None:
    image = Image.fromarray(coloured(RAMP))
    if mode == "P":
        image = image.quantize(4)
        assert set(np.asarray(image).ravel()) == {0, 1, 2, 3}
    else:
        image = image.convert(mode)
    image.save(tmp_path / "l.png")
    assert np.array_equal(read_label(tmp_path / "l.png", manifest(labels=rgb_labels())), RAMP)


def test_transparent_colours_count(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.dstack([coloured(RAMP), RAMP])).save(tmp_path / "l.png")
    assert np.array_equal(read_label(tmp_path / "l.png", manifest(labels=rgb_labels())), RAMP)


def test_the_channels_of_a_colour_are_not_exchanged(tmp_path: Path, manifest: Manifest) -> None:
    colours = [[1, 2, 3], [3, 2, 1], [2, 1, 3]]
    Image.fromarray(np.array([colours[::-1]], np.uint8)).save(tmp_path / "l.png")
    labels = rgb_labels(colours=colours)
    assert read_label(tmp_path / "l.png", manifest(labels=labels)).tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("encoding", ["id", "palette", "id16", "rgb"])
def test_a_value_outside_the_map_is_located(tmp_path: Path, manifest: Manifest, encoding: str) -> None:
    raw = np.tile(RAMP, (5, 6))
    raw[4, 17], raw[4, 20], raw[9, 0] = 77, 5, 6
    labels: dict[str, object] = {"encoding": encoding, "ignore": [255]}
    picture = Image.fromarray(raw.astype(np.uint16) if encoding == "id16" else raw)
    value = "value 77"
    if encoding == "palette":
        picture = with_palette(raw)
    if encoding == "rgb":
        painted = coloured(RAMP)[np.arange(15) % 3][:, np.arange(24) % 4]
        painted[4, 17], painted[9, 0] = (250, 4, 3), (0, 0, 0)
        labels, picture, value = rgb_labels(), Image.fromarray(painted), "colour (250, 4, 3)"
    path = tmp_path / "l.png"
    picture.save(path)
    place = "labels.colours" if encoding == "rgb" else "labels.map"
    with pytest.raises(DataError) as caught:
        read_label(path, manifest(labels=labels))
    assert str(caught.value) == (
        f"{path}: {value} at row 4, column 17 is not in the label map of mini; "
        f"list it in {place} or labels.ignore, or say labels.unlisted: ignore"
    )
    lenient = read_label(path, manifest(labels=labels | {"unlisted": "ignore"}))
    assert lenient[4, 17] == lenient[9, 0] == 255
    assert lenient[0, :4].tolist() == [0, 1, 2, 255]


@pytest.mark.parametrize(
    ("mode", "encoding", "advice"),
    [
        ("P", "id", "mode 'P' does not fit labels.encoding 'id'; declare encoding: palette or rgb"),
        ("RGB", "id", "mode 'RGB' does not fit labels.encoding 'id'; declare encoding: rgb"),
        ("I;16", "palette", "mode 'I;16' does not fit labels.encoding 'palette'; declare encoding: id16"),
        ("L", "id16", "mode 'L' does not fit labels.encoding 'id16'; declare encoding: id or palette or rgb"),
        ("LA", "id", "mode 'LA' does not fit labels.encoding 'id'; store it with 8 or 16 bits"),
        ("I;16", "rgb", "mode 'I;16' does not fit labels.encoding 'rgb'; declare encoding: id16"),
    ],
)
def test_a_file_of_another_encoding(tmp_path: Path, manifest: Manifest, mode: str, encoding: str, advice: str) -> None:
    picture = Image.fromarray(RAMP.astype(np.uint16)) if mode == "I;16" else Image.fromarray(RAMP).convert(mode)
    picture.save(tmp_path / "l.png")
    labels = rgb_labels() if encoding == "rgb" else {"encoding": encoding, "ignore": [255]}
    with pytest.raises(DataError) as caught:
        read_label(tmp_path / "l.png", manifest(labels=labels))
    assert advice in str(caught.value)


def test_truncated_label(tmp_path: Path, manifest: Manifest) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (200, 300), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "l.png")
    (tmp_path / "l.png").write_bytes((tmp_path / "l.png").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"l\.png: cannot be decoded"):
        read_label(tmp_path / "l.png", manifest())


RAW = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([3, 4, 9, 200])
)


@settings(max_examples=50)
@given(raw=RAW, classes=st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_labels_equal_a_dictionary_look_up(
    tmp_path_factory: pytest.TempPathFactory, raw: npt.NDArray[np.uint8], classes: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "look_up.png"
    Image.fromarray(raw).save(path)
    mapping = dict(zip((3, 4, 200), classes, strict=True))
    labels = {"encoding": "id", "map": mapping, "ignore": [9]}
    manifest = DatasetManifest.model_validate(
        {
            "name": "mini", "title": "mini", "domain": "any", "classes": ["a", "b", "c"], "labels": labels, "root": ".",
            "train": {"lists": "a"}, "eval": {"lists": "b"}, "mean": [0, 0, 0], "std": [1, 1, 1], "crop_size": [1, 1],
        }
    )  # fmt: skip
    expected = [[mapping.get(value, 255) for value in row] for row in raw.tolist()]
    assert read_label(path, manifest).tolist() == expected


def test_255_classes_fit(tmp_path: Path, manifest: Manifest) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "l.png")
    many = manifest(classes=[f"class {i}" for i in range(255)])
    assert np.array_equal(read_label(tmp_path / "l.png", many), values)


# Pairs


def test_pair(mini: Path, manifest: Manifest) -> None:
    record = Record("a", mini / "mini/train/images/a.png", mini / "mini/train/labels/a.png")
    image, label = read_pair(record, manifest())
    assert np.array_equal(image, read_image(record.image))
    assert np.array_equal(label, read_label(record.label, manifest()))


@pytest.mark.parametrize(("size", "text"), [((9, 7), "9 x 7"), ((8, 6), "8 x 6"), ((6, 1), "6 x 1")])
def test_pair_of_different_sizes(mini: Path, manifest: Manifest, size: tuple[int, int], text: str) -> None:
    record = Record("a", mini / "mini/train/images/a.png", mini / "mini/train/labels/a.png")
    Image.fromarray(np.zeros(size, np.uint8)).save(record.label)
    with pytest.raises(DataError) as caught:
        read_pair(record, manifest())
    assert str(caught.value) == (
        f"{record.label}: {text} (height x width), its image {record.image} is 6 x 8; "
        "a label map needs one value for every pixel: replace one of the files or exclude both"
    )
