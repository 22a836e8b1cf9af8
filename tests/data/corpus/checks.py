"""Compares what was read from a folder with the truth, and with the same data under a manifest written by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from data.corpus.cases import Truth
from data.corpus.files import gray8, gray16, write_image
from tiny_source import MEAN, STD, TINY

from seg_transfer.data.images import image_size, read_pair
from seg_transfer.data.inspection import Inspection
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records
from seg_transfer.features.extract import extract
from seg_transfer.features.images import TargetImages
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations
from seg_transfer.sampling import class_counts, draw_pixel_sample

PIXELS_PER_IMAGE = 120


def key_of(record: Record, here: Path) -> str:
    """The path of an image below the folder of the case, without suffix; with its row or the corner of its tile."""
    path = (Path.cwd() / record.image).relative_to(here).with_suffix("").as_posix()
    if record.row is not None:
        return f"{path}/{record.row}"
    return path if record.window is None else f"{path}@{record.window[0]}_{record.window[1]}"


def reference_of(truth: Truth, here: Path) -> tuple[DatasetManifest, Path]:
    """Write the truth as plain PNG files with a manifest by hand; returns the manifest and its data root."""
    n_classes = len(truth.classes) or len(truth.values or ())
    ignored = 255 if n_classes <= 255 else 65535
    for number, key in enumerate(sorted(truth.scenes)):
        each = truth.scenes[key]
        write_image(here / "images" / f"{number:03}.png", each.image)
        (gray8 if n_classes <= 255 else gray16)(here / "labels" / f"{number:03}.png", each.label)
    fields = {
        "name": "by_hand",
        "title": "Written by hand",
        "domain": "corpus",
        "classes": [f"class {index}" for index in range(n_classes)],
        "root": ".",
        "labels": {"encoding": "id" if n_classes <= 255 else "id16", "ignore": [ignored]},
        "train": {"images": "images/*.png", "labels": "labels/*.png"},
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "crop_size": [30, 30],
    }
    file = here / "by_hand.yaml"
    file.write_text(yaml.safe_dump(fields))
    return load_manifest(file), here


def assert_reads(found: Inspection, truth: Truth, here: Path) -> None:
    """Check classes, values, pixel counts and pairs, and every pixel against the manifest written by hand."""
    _check_table(found, truth)
    here = here.resolve()
    records = {key_of(record, here): record for record in list_records(found.manifest, found.root, "train")}
    assert sorted(records) == sorted(truth.scenes)
    reference, root = reference_of(truth, here / "by hand")
    by_hand = list_records(reference, root, "train")
    for key, expected in zip(sorted(truth.scenes), by_hand, strict=True):
        image, label = read_pair(records[key], found.manifest)
        stated_image, stated_label = read_pair(expected, reference)
        np.testing.assert_array_equal(image, stated_image, err_msg=key)
        np.testing.assert_array_equal(label, stated_label, err_msg=key)
        assert (image.dtype, label.dtype) == (stated_image.dtype, stated_label.dtype)
        assert image_size(records[key]) == label.shape
        np.testing.assert_array_equal(label, truth.scenes[key].label)


def _check_table(found: Inspection, truth: Truth) -> None:
    classes = found.manifest.classes
    if truth.classes:
        assert classes == truth.classes
    rows = {row.name: row for row in found.conclusion.table}
    assert tuple(rows) == classes
    if truth.values is not None:
        assert [rows[name].values for name in classes] == [(_number(value),) for value in truth.values]
    if any("@" in key for key in truth.scenes):
        return  # tiles overlap, and the table counts every pixel of a file once
    labels = [each.label for each in truth.scenes.values()]
    for index, name in enumerate(classes):
        pixels = [int((label == index).sum()) for label in labels]
        assert (rows[name].pixels, rows[name].images) == (sum(pixels), sum(map(bool, pixels))), name


def _number(value: int | tuple[int, int, int]) -> int:
    """A color is R + 256 G + 65536 B."""
    return value if isinstance(value, int) else value[0] + 256 * value[1] + 65536 * value[2]


def observations(manifest: DatasetManifest, root: Path) -> Observations:
    """The observations of a dataset through the tiny network, whatever its files are called."""
    records = sorted(list_records(manifest, root, "train"), key=lambda record: record.image_id)
    labels = [read_pair(record, manifest)[1] for record in records]
    ignored = manifest.ignore_index
    maps = [(str(number), label) for number, label in enumerate(labels)]
    sample = draw_pixel_sample(
        maps,
        PIXELS_PER_IMAGE,
        class_counts=class_counts(labels, len(manifest.classes), ignored),
        dataset="corpus",
        ignore_value=ignored,
    )
    return extract(_network(), _images(records), sample)


def _images(records: Sequence[Record]) -> TargetImages:
    return TargetImages(records, short_side=32)


def _network() -> SourceModel:
    torch.manual_seed(0)
    model = with_classes(read_model_config(TINY), 5)
    return load_source_model(with_normalization(model, MEAN, STD))
