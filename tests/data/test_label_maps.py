"""Decoding of label maps of every encoding, and of pairs of image and label map."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from data.label_images import RAMP, colored, record_of, rgb_labels, with_palette
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from seg_transfer.data.encodings import ColorLabels, ValueLabels
from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.images import read_image, read_label, read_pair
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import find_records
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]


def test_gray_ids(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(RAMP).save(tmp_path / "l.png")
    label = read_label(record_of(tmp_path / "l.png"), manifest())
    assert label.dtype == np.uint8
    assert np.array_equal(label, RAMP)


def test_one_bit_ids(tmp_path: Path, manifest: Manifest) -> None:
    mask = np.array([[0, 1, 1], [1, 0, 0]], bool)
    Image.fromarray(mask).save(tmp_path / "l.png")
    assert read_label(record_of(tmp_path / "l.png"), manifest()).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_many_values_to_one_class(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.array([[9, 7, 0], [8, 9, 3]], np.uint8)).save(tmp_path / "l.png")
    labels = {"encoding": "id", "ignore": [0, 3], "map": {7: 2, 8: 0, 9: 2}}
    assert read_label(record_of(tmp_path / "l.png"), manifest(labels=labels)).tolist() == [[2, 2, 255], [0, 2, 255]]


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_gives_the_index(tmp_path: Path, manifest: Manifest, transparent: bool) -> None:
    palette = manifest(labels={"encoding": "palette", "ignore": [255]})
    with_palette(RAMP, transparent=transparent).save(tmp_path / "p.png")
    Image.fromarray(RAMP).save(tmp_path / "gray.png")
    assert np.array_equal(read_label(record_of(tmp_path / "p.png"), palette), RAMP)
    assert np.array_equal(read_label(record_of(tmp_path / "gray.png"), palette), RAMP)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_palettes_are_not_stretched(tmp_path: Path, manifest: Manifest, bits: int) -> None:
    label = np.array([[0, 1, 1], [1, 0, 1]], np.uint8) if bits == 1 else np.array([[0, 1, 2], [2, 0, 1]], np.uint8)
    with_palette(label).save(tmp_path / "p.png", bits=bits)
    palette = manifest(labels={"encoding": "palette"})
    assert np.array_equal(read_label(record_of(tmp_path / "p.png"), palette), label)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_ids(tmp_path: Path, manifest: Manifest, suffix: str) -> None:
    raw = np.array([[300, 65535, 0], [44, 300, 0]], np.uint16)
    Image.fromarray(raw).save(tmp_path / f"l.{suffix}")
    labels = {"encoding": "id16", "ignore": [0], "map": {300: 0, 65535: 1, 44: 2}}
    assert read_label(record_of(tmp_path / f"l.{suffix}"), manifest(labels=labels)).tolist() == [
        [0, 1, 255],
        [2, 0, 255],
    ]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors(tmp_path: Path, manifest: Manifest, mode: str) -> None:
    image = Image.fromarray(colored(RAMP))
    if mode == "P":
        image = image.quantize(4)
        assert set(np.asarray(image).ravel()) == {0, 1, 2, 3}
    else:
        image = image.convert(mode)
    image.save(tmp_path / "l.png")
    assert np.array_equal(read_label(record_of(tmp_path / "l.png"), manifest(labels=rgb_labels())), RAMP)


def test_transparent_colors_count(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.dstack([colored(RAMP), RAMP])).save(tmp_path / "l.png")
    assert np.array_equal(read_label(record_of(tmp_path / "l.png"), manifest(labels=rgb_labels())), RAMP)


def test_the_channels_of_a_color_are_not_exchanged(tmp_path: Path, manifest: Manifest) -> None:
    colors = [[1, 2, 3], [3, 2, 1], [2, 1, 3]]
    Image.fromarray(np.array([colors[::-1]], np.uint8)).save(tmp_path / "l.png")
    labels = rgb_labels(colours=colors)
    assert read_label(record_of(tmp_path / "l.png"), manifest(labels=labels)).tolist() == [[2, 1, 0]]


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
        painted = colored(RAMP)[np.arange(15) % 3][:, np.arange(24) % 4]
        painted[4, 17], painted[9, 0] = (250, 4, 3), (0, 0, 0)
        labels, picture, value = rgb_labels(), Image.fromarray(painted), "color (250, 4, 3)"
    path = tmp_path / "l.png"
    picture.save(path)
    field = "labels.colours" if encoding == "rgb" else "labels.map"
    with pytest.raises(DataError) as caught:
        read_label(record_of(path), manifest(labels=labels))
    assert str(caught.value) == (
        f"{path}: {value} at row 4, column 17 is not in the label map of mini; "
        f"list it in {field} or labels.ignore, or set labels.unlisted: ignore or nearest"
    )
    lenient = read_label(record_of(path), manifest(labels=labels | {"unlisted": "ignore"}))
    assert lenient[4, 17] == lenient[9, 0] == 255
    assert lenient[0, :4].tolist() == [0, 1, 2, 255]


def test_deep_gray_is_no_color(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "l.png")
    with pytest.raises(
        DataError, match=r"mode 'I;16' does not fit labels.encoding 'rgb'; declare encoding: id, or store"
    ):
        read_label(record_of(tmp_path / "l.png"), manifest(labels=rgb_labels()))


@pytest.mark.parametrize("encoding", ["id", "palette", "id16"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "I", "F"])
def test_one_number_per_pixel_however_it_is_stored(
    tmp_path: Path, manifest: Manifest, mode: str, encoding: str
) -> None:
    deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    picture = Image.fromarray(RAMP.astype(deep[mode])) if mode in deep else Image.fromarray(RAMP).convert(mode)
    picture.save(tmp_path / "l.tif")
    labels = {"encoding": encoding, "ignore": [255]}
    assert np.array_equal(read_label(record_of(tmp_path / "l.tif"), manifest(labels=labels)), RAMP)


def test_unlisted_numbers_count_as_the_nearest(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.array([[0, 49, 50, 51, 99, 149, 151, 254, 255]], np.uint8)).save(tmp_path / "l.png")
    labels = {"encoding": "id", "map": {0: 0, 100: 1, 200: 2}, "ignore": [255], "unlisted": "nearest"}
    label = read_label(record_of(tmp_path / "l.png"), manifest(labels=labels))
    # 50 is as far from 0 as from 100: the smaller one. 254 is nearest to an ignored value.
    assert label.tolist() == [[0, 0, 0, 1, 1, 1, 2, 255, 255]]


def test_unlisted_colors_count_as_the_nearest(tmp_path: Path, manifest: Manifest) -> None:
    pixels = [[250, 3, 3], [200, 60, 60], [10, 10, 14], [0, 200, 90], [128, 128, 60], [3, 3, 250]]
    Image.fromarray(np.array([pixels], np.uint8)).save(tmp_path / "l.png")
    label = read_label(record_of(tmp_path / "l.png"), manifest(labels=rgb_labels(unlisted="nearest")))
    # Squared distances of (128, 128, 60) from red, green, blue and the ignored (7, 8, 9): 33758, 33758, 67350, 31642.
    assert label.tolist() == [[0, 0, 255, 1, 255, 2]]


def test_of_two_nearest_colors_the_smaller_number_counts() -> None:
    labels = ColorLabels(encoding="rgb", colours=((0, 20, 0), (20, 0, 0)))
    green, red, between = 256 * 20, 20, 10 + 256 * 10
    assert labels.nearest(np.array([between, green]), np.array([red, green])).tolist() == [0, 1]


def test_a_single_listed_number_is_nearest_to_all() -> None:
    labels = ValueLabels(encoding="id", map={7: 0})
    assert labels.nearest(np.array([-3, 7, 900]), np.array([7])).tolist() == [0, 0, 0]


def test_negative_numbers_are_ignored(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.array([[0, -1, 2], [-1, 1, 0]], np.int32)).save(tmp_path / "l.tif")
    labels = {"encoding": "id", "ignore": [-1]}
    assert read_label(record_of(tmp_path / "l.tif"), manifest(labels=labels)).tolist() == [[0, 255, 2], [255, 1, 0]]


def test_truncated_label(tmp_path: Path, manifest: Manifest) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (200, 300), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "l.png")
    (tmp_path / "l.png").write_bytes((tmp_path / "l.png").read_bytes()[:3000])
    with pytest.raises(DataError, match=r"l\.png: cannot be decoded"):
        read_label(record_of(tmp_path / "l.png"), manifest())


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
    assert read_label(record_of(path), manifest).tolist() == expected


def test_255_classes_fit(tmp_path: Path, manifest: Manifest) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "l.png")
    many = manifest(classes=[f"class {i}" for i in range(255)])
    assert np.array_equal(read_label(record_of(tmp_path / "l.png"), many), values)


# Pairs


def test_pair(mini: Path, manifest: Manifest) -> None:
    record = Record("a", mini / "mini/train/images/a.png", mini / "mini/train/labels/a.png")
    image, label = read_pair(record, manifest())
    assert np.array_equal(image, read_image(record))
    assert np.array_equal(label, read_label(record, manifest()))


@pytest.mark.parametrize(("size", "text"), [((9, 7), "9 x 7"), ((8, 6), "8 x 6"), ((6, 1), "6 x 1")])
def test_pair_of_different_sizes(mini: Path, manifest: Manifest, size: tuple[int, int], text: str) -> None:
    record = Record("a", mini / "mini/train/images/a.png", mini / "mini/train/labels/a.png")
    Image.fromarray(np.zeros(size, np.uint8)).save(record.label)
    with pytest.raises(DataError) as caught:
        read_pair(record, manifest())
    assert str(caught.value) == (
        f"{record.label}: {text} (height x width), but its image {record.image} is 6 x 8; "
        "a label map needs one value per pixel: replace one of the files or exclude both"
    )


# A further encoding


class ArrayLabels(RawValues):
    """Label maps as arrays of NumPy, with a file of remarks beside them."""

    encoding: Literal["npy"]

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        return np.load(record.label)

    def companion(self, label: Path) -> Path:
        return label.with_suffix(".txt")


def test_an_encoding_is_one_class(tmp_path: Path, manifest: Manifest) -> None:
    """Reading, errors and records need nothing else than the class of an encoding."""
    root = tmp_path / "mini"
    root.mkdir()
    np.save(root / "a.npy", np.array([[300, 7], [7, 9]]))
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(root / "a.png")
    labels = ArrayLabels(encoding="npy", map={300: 0, 7: 2}, ignore=(9,))
    arrays = manifest(train={"images": "*.png", "labels": "*.npy"}).model_copy(update={"labels": labels})
    assert read_label(record_of(root / "a.npy"), arrays).tolist() == [[0, 2], [2, 255]]
    _, problems = find_records(arrays, tmp_path, "train")
    assert len(problems) == 1
    assert "a.txt does not exist" in problems[0]
    (root / "a.txt").touch()
    (record,), problems = find_records(arrays, tmp_path, "train")
    assert (record.companion, problems) == (root / "a.txt", [])
    strict = arrays.model_copy(update={"labels": labels.model_copy(update={"ignore": ()})})
    with pytest.raises(DataError, match=r"a\.npy: value 9 at row 1, column 1 is not in the label map of mini"):
        read_label(record, strict)


@pytest.mark.parametrize(("n_classes", "dtype", "ignored"), [(255, np.uint8, 255), (256, np.uint16, 65535)])
def test_class_indices_get_wider_above_255_classes(
    tmp_path: Path, manifest: Manifest, n_classes: int, dtype: type, ignored: int
) -> None:
    raw = np.array([[0, 254, 255], [256, 9, 300]], np.uint16)
    Image.fromarray(raw).save(tmp_path / "l.png")
    labels = {"encoding": "id16", "ignore": [300], "map": {0: 0, 9: 9, 254: 254, 255: n_classes - 1, 256: 1}}
    wide = manifest(classes=[f"class {i}" for i in range(n_classes)], labels=labels)
    label = read_label(record_of(tmp_path / "l.png"), wide)
    assert (label.dtype, wide.ignore_index) == (dtype, ignored)
    assert label.tolist() == [[0, 254, n_classes - 1], [1, 9, ignored]]


def test_unlisted_values_are_ignored_among_many_classes(tmp_path: Path, manifest: Manifest) -> None:
    Image.fromarray(np.array([[255, 400], [4095, 65535]], np.uint16)).save(tmp_path / "l.png")
    labels = {"encoding": "id16", "unlisted": "ignore"}
    wide = manifest(classes=[f"class {i}" for i in range(4096)], labels=labels)
    assert read_label(record_of(tmp_path / "l.png"), wide).tolist() == [[255, 400], [4095, 65535]]
