"""Faults that are put into real datasets with a manifest: the audit names each, and none where there is none."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from data.inspection import real_faults
from data.inspection.real_faults import DATASETS, FAULTS, Fault, Ten, ten_of, without_fault

from seg_transfer.data.audit import audit
from seg_transfer.data.manifest import DatasetManifest

Put = Callable[[Ten, Path], Fault]


def manifest_of(n_classes: int, encoding: str = "id") -> DatasetManifest:
    """What a person writes who believes that ids are 0, 1, ..., and 255 is ignored."""
    return DatasetManifest.model_validate(
        {
            "name": "mine",
            "title": "Mine",
            "domain": "any",
            "classes": [f"thing {index}" for index in range(n_classes)],
            "labels": {"encoding": encoding, "ignore": [255]},
            "root": ".",
            "train": {"images": "images/*", "labels": "labels/*"},
            "mean": [0.5, 0.5, 0.5],
            "std": [0.2, 0.2, 0.2],
            "crop_size": [64, 64],
        }
    ).following_links()


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("put", [without_fault, *FAULTS], ids=lambda put: put.__name__)
def test_a_fault_is_named(dataset: str, put: Put, real_data: Path, tmp_path: Path) -> None:
    ten = ten_of(real_data / dataset)
    fault = put(ten, tmp_path)
    encoding = "palette" if put is real_faults.differing_palettes else "id"
    report = audit(manifest_of(ten.n_classes, encoding), tmp_path)
    kinds = {doubt.kind for doubt in report.doubts}
    if put is real_faults.scaled_small_depths:
        # Values between are not listed; with two values, all pixels of the second class are ignored.
        lines = [*report.problems, *(doubt.line for doubt in report.doubts)]
        assert re.search("value (85|170) .* is not in the label map|thing 1.* never occur", lines[0])
        return
    # With its ids or palettes shifted, a rare class may really be gone, or most pixels ignored.
    also = {"unseen", "ignored"} if fault.doubt else set()
    assert kinds - also == {fault.doubt} - also - {""}
    assert {fault.doubt} - {""} <= kinds
    # Only values without a class are problems.
    listed = "value \\d+ at row .* is not in the label map"
    assert all(re.search(listed, problem) for problem in report.problems)
    if put not in (real_faults.one_jpeg_mask, real_faults.ids_from_one):
        assert report.problems == ()
