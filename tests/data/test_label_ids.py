"""Label maps that are written are read by the manifest's decoder as the same classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.label_images import UNLABELED, record_of, with_palette
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from seg_transfer.data.encodings import ColorLabels, ValueLabels
from seg_transfer.data.images import read_label
from seg_transfer.data.label_ids import LabelIds, class_colors, class_indices, distinct_colors, draw_labels, label_ids
from seg_transfer.data.manifest import DatasetManifest, load_manifests
from seg_transfer.resources import shipped

Manifest = Callable[..., DatasetManifest]
PALETTE = {"encoding": "palette", "map": {4: 0, 9: 1, 250: 2}, "ignore": [0, 255]}
MANIFESTS = load_manifests(shipped("data_manifests")) | {
    f"small {name}": each for name, each in load_manifests(shipped("data_manifests/small")).items()
}


def written(classes: np.ndarray, labels: LabelIds, path: Path) -> Path:
    draw_labels(classes, labels).save(path, format="PNG")
    return path


@st.composite
def encodings(draw: Any) -> tuple[dict[str, Any], int]:
    """Labels of a manifest, and its number of classes."""
    n_classes = draw(st.integers(2, 12))
    encoding = draw(st.sampled_from(["id", "id16", "palette", "rgb"]))
    if encoding == "rgb":
        byte = st.integers(0, 255)
        colors = draw(
            st.lists(st.tuples(byte, byte, byte), min_size=n_classes + 1, max_size=n_classes + 1, unique=True)
        )
        return {"encoding": "rgb", "colours": colors[1:], "ignore": colors[:1]}, n_classes
    largest = 255 if encoding == "palette" else draw(st.sampled_from([255, 256, 65535]))
    raw = draw(st.lists(st.integers(0, largest), min_size=n_classes + 3, max_size=n_classes + 3, unique=True))
    several = {value: draw(st.integers(0, n_classes - 1)) for value in raw[n_classes + 1 :]}
    mapped = {value: index for index, value in enumerate(raw[:n_classes])} | several
    return {"encoding": encoding, "map": mapped, "ignore": [raw[n_classes]]}, n_classes


@settings(max_examples=60)
@given(encodings(), st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_decoder_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, encoding: tuple[dict[str, Any], int], height: int, width: int, seed: int
) -> None:
    from data.conftest import plain_manifest

    labels, n_classes = encoding
    names = [f"class {index}" for index in range(n_classes)]
    manifest = DatasetManifest.model_validate(plain_manifest(labels=labels, classes=names))
    classes = np.random.default_rng(seed).integers(0, n_classes, (height, width))
    path = written(classes, label_ids(manifest), tmp_path_factory.getbasetemp() / "fuzzed.png")
    assert np.array_equal(read_label(record_of(path), manifest), classes)


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_the_ids_of_a_shipped_manifest_are_those_that_it_decodes(tmp_path: Path, manifest: DatasetManifest) -> None:
    labels = label_ids(manifest)
    assert len(labels.ids) == len(manifest.classes)
    known = np.array(labels.known)
    if isinstance(manifest.labels, ValueLabels | ColorLabels):
        path = written(known[None], labels, tmp_path / "all.png")
        assert np.array_equal(read_label(record_of(path), manifest)[0], known)
    raw = manifest.raw_classes()
    if labels.kind != "colors":
        assert [raw[labels.ids[index]] for index in known] == known.tolist()


def test_the_first_number_of_a_class_is_written(manifest: Manifest) -> None:
    labels = label_ids(manifest(labels={"encoding": "id", "map": {9: 2, 7: 0, 5: 2, 300: 1}, "ignore": [0]}))
    assert (labels.kind, labels.ids) == ("values", (7, 300, 9))
    image = draw_labels(np.array([[2, 0], [1, 1]]), labels)
    assert image.mode == "I;16"
    assert np.asarray(image).tolist() == [[9, 7], [300, 300]]


def test_small_numbers_are_written_in_eight_bits(manifest: Manifest) -> None:
    image = draw_labels(np.array([[0, 2]]), label_ids(manifest()))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 2]]


def test_a_class_that_label_maps_lack_is_not_known(manifest: Manifest) -> None:
    labels = label_ids(manifest(labels={"encoding": "id", "map": {3: 0, 8: 2}, "ignore": [255]}))
    assert labels.ids == (3, None, 8)
    assert labels.known == (0, 2)


def test_annotations_with_names_are_written_as_class_indices(manifest: Manifest) -> None:
    named = {"encoding": "labelme", "names": {"road": 1, "car": 2}, "background": 0}
    assert label_ids(manifest(labels=named)) == class_indices(3)


def test_colors_are_written_as_colors(manifest: Manifest) -> None:
    colors = [[1, 2, 3], [255, 0, 128], [0, 0, 0]]
    labels = label_ids(manifest(labels={"encoding": "rgb", "colours": colors, "ignore": [list(UNLABELED)]}))
    image = draw_labels(np.array([[1, 0, 2]]), labels)
    assert image.mode == "RGB"
    assert np.asarray(image).tolist() == [[colors[1], colors[0], colors[2]]]
    assert class_colors(labels).tolist() == colors


def test_the_palette_of_the_dataset_is_kept(tmp_path: Path, manifest: Manifest) -> None:
    with_palette(np.array([[4, 9], [250, 255]], np.uint8)).save(tmp_path / "l.png")
    palette = Image.open(tmp_path / "l.png").getpalette()
    labels = label_ids(manifest(labels=PALETTE), [record_of(tmp_path / "l.png")])
    written(np.array([[2, 1, 0]]), labels, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[250, 9, 4]]
        assert image.getpalette() == palette
    assert class_colors(labels).tolist() == [palette[12:15], palette[27:30], palette[750:753]]


@pytest.mark.parametrize("stored", ["gray", "array", "gone"])
def test_palette_indices_without_a_palette_get_distinct_colors(tmp_path: Path, manifest: Manifest, stored: str) -> None:
    path = tmp_path / ("l.npy" if stored == "array" else "l.png")
    values = np.array([[4, 9]], np.uint8)
    if stored == "gray":
        Image.fromarray(values).save(path)
    elif stored == "array":
        np.save(path, values)
    labels = label_ids(manifest(labels=PALETTE), [record_of(path)])
    assert labels.palette is None
    image = draw_labels(np.array([[1]]), labels)
    assert image.convert("RGB").getpixel((0, 0)) == tuple(distinct_colors(3)[1])


def test_colors_that_do_not_differ_are_replaced(manifest: Manifest) -> None:
    same = LabelIds(kind="palette", ids=(0, 1, 2), palette=((9, 9, 9),) * 3)
    assert np.array_equal(class_colors(same), distinct_colors(3))
    assert len(np.unique(distinct_colors(256), axis=0)) == 256


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "values", "ids": (0, 65536)}, "labels.ids holds 65536; values allow 0 to 65535, correct it"),
        ({"kind": "palette", "ids": (0, 256)}, "labels.ids holds 256; palette allow 0 to 255, correct it"),
        ({"kind": "colors", "ids": (0, 1)}, "labels.ids holds 0, which does not fit labels.kind 'colors'"),
        ({"kind": "values", "ids": (None,)}, "labels.ids names no class; list the number or color of each"),
    ],
)
def test_ids_that_no_label_map_can_hold_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LabelIds.model_validate(fields)


@pytest.mark.parametrize("labels", [class_indices(3), LabelIds(kind="colors", ids=((1, 2, 3), None, (4, 5, 6)))])
def test_they_survive_json(labels: LabelIds) -> None:
    assert LabelIds.model_validate_json(labels.model_dump_json()) == labels
