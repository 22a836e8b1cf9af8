"""A target in another container has the same pixel sample, images included."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data.coco_files import compress, runs
from data.parquet_files import HUB_IMAGE, hub_cell, write_columns
from pixel_samples import TARGET, assert_equal, sample_of

from seg_transfer.data.images import read_image, read_label
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.study.run import Run


def with_fields(run: Run, **changes: Any) -> Run:
    manifest = run.manifests[TARGET]
    fields = manifest.model_dump() | {"eval": None, "source_train": None, "pairing": None} | changes
    return replace(run, manifests={TARGET: DatasetManifest.model_validate(fields)})


def class_count(run: Run) -> int:
    return len(run.manifests[TARGET].classes)


def in_coco(run: Run) -> Run:
    """The masks of all classes as COCO's runs, category 1 for class 0; ignored pixels have no annotation."""
    records, manifest = run.low_shot(TARGET), run.manifests[TARGET]
    images, annotations = [], []
    for number, record in enumerate(records):
        labels = read_label(record, manifest)
        size = [*labels.shape]
        images.append({"id": f"i{number}", "file_name": record.image.name, "height": size[0], "width": size[1]})
        for index in np.unique(labels[labels != 255]).tolist():
            segmentation = {"size": size, "counts": compress(runs(labels == index))}
            annotation = {"image_id": f"i{number}", "category_id": index + 1, "segmentation": segmentation}
            annotations.append({"id": len(annotations), "iscrowd": 0} | annotation)
    content = {"images": images, "annotations": annotations, "categories": []}
    (run.data_root / manifest.root / "labels.json").write_text(json.dumps(content))
    mapped = {index + 1: index for index in range(class_count(run))}
    split = {"images": manifest.train.images, "labels": "labels.json", "unpaired": "ignore"}
    return with_fields(run, labels={"encoding": "coco", "map": mapped, "ignore": [0]}, train=split)


def in_a_table(run: Run) -> Run:
    records, manifest = run.low_shot(TARGET), run.manifests[TARGET]
    files = {"image": [record.image for record in records], "mask": [record.label for record in records]}
    columns = {
        name: pa.array([hub_cell(path.read_bytes()) for path in paths], HUB_IMAGE) for name, paths in files.items()
    }
    write_columns(run.data_root / manifest.root / "a.parquet", columns, row_group_size=2)
    split = {"images": "*.parquet", "labels": "*.parquet"}
    return with_fields(run, train=split, columns={"image": "image", "label": "mask"})


@pytest.mark.parametrize("convert", [in_coco, in_a_table])
def test_images_and_label_maps_are_the_same_in_a_container(run: Run, convert: Callable[[Run], Run]) -> None:
    other = convert(run)
    records, converted = run.low_shot(TARGET), other.low_shot(TARGET)
    for one, two in zip(records, converted, strict=True):
        assert np.array_equal(read_image(one), read_image(two))
        labels = read_label(one, run.manifests[TARGET])
        assert np.array_equal(labels, read_label(two, other.manifests[TARGET]))
        assert labels.dtype == read_label(two, other.manifests[TARGET]).dtype
    assert run.records_key(TARGET, records) != run.records_key(TARGET, converted)


def test_the_sample_of_coco_annotations_is_that_of_the_label_maps(run: Run) -> None:
    assert_equal(sample_of(in_coco(run)), sample_of(run))
