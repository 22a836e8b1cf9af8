"""Real datasets are understood as their descriptions state, and a fault put into them is named."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from data.corpus.cases import Given, inspected
from data.inspection.real_faults import DATASETS, FAULTS, Fault, Ten, ten_of, without_fault


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_classes_are_those_of_the_description(dataset: str, real_data: Path, tmp_path: Path) -> None:
    meta = json.loads((real_data / dataset / "meta.json").read_text(encoding="utf-8"))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(meta["classes"]))
    split, stated = real_data / dataset / "train", meta["stats"]["train"]
    # Some names occur in no image; stating the first id confirms them.
    found = inspected(Given(split / "images", split / "labels", names, {"first_id": "0"}))
    assert [doubt.line for doubt in found.doubts] == []
    assert list(found.manifest.classes) == meta["classes"]
    assert len(found.records) == meta["n_train"]
    assert (found.layout.unlabeled, found.layout.unpaired) == ((), ())
    rows = {row.name: row for row in found.conclusion.table}
    labeled = sum(rows[name].pixels for name in meta["classes"])
    for name in meta["classes"]:
        assert rows[name].pixels / labeled == pytest.approx(stated["pixel_fraction"][name], abs=6e-6)
        assert rows[name].images == stated["images_with_class"][name]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("put", [without_fault, *FAULTS], ids=lambda put: put.__name__)
def test_a_fault_is_named(dataset: str, put: Callable[[Ten, Path], Fault], real_data: Path, tmp_path: Path) -> None:
    fault = put(ten_of(real_data / dataset), tmp_path)
    found = inspected(fault.given)
    doubts = {doubt.kind: doubt.line for doubt in found.doubts}
    assert set(doubts) == ({fault.doubt} if fault.doubt else set()), doubts
    if fault.doubt:
        assert re.search(fault.seen, doubts[fault.doubt])
    if fault.classes:
        assert found.manifest.classes == fault.classes
