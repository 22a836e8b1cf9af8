"""Folders of every kind that a person would read without asking: their pixels are those of a hand-written manifest."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.corpus import certain_clutter, certain_containers, certain_images, certain_masks, certain_pairing
from data.corpus.cases import Kind, inspected, kinds_in
from data.corpus.checks import assert_reads, observations, reference_of
from data.corpus.scenes import Scene

MODULES = (certain_masks, certain_images, certain_pairing, certain_clutter, certain_containers)
KINDS = dict(itertools.chain.from_iterable(kinds_in(module).items() for module in MODULES))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_certain_folder_is_read(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case = kind(tmp_path)
    found = inspected(case.given)
    assert [doubt.line for doubt in found.doubts] == []
    found.require_certain()
    assert_reads(found, case.truth, tmp_path)
    assert len(found.layout.unlabeled) == case.truth.unlabeled
    notes = found.notes
    assert len(set(notes)) == len(notes)
    for pattern in case.truth.notes:
        assert len([note for note in notes if re.search(pattern, note)]) == 1, (pattern, notes)


OBSERVED = ("gray_png_of_4_bits", "colors_png", "exif_quarter_turn_that_fits_upright", "five_bands_in_stated_order")


@pytest.mark.parametrize("name", [*OBSERVED, "three_hundred_classes", "coco_polygons", "parquet_file_of_structs"])
def test_observations_are_those_of_a_manifest_by_hand(name: str, tmp_path: Path) -> None:
    case = KINDS[name](tmp_path)
    found = inspected(case.given)
    by_hand = observations(*reference_of(case.truth, tmp_path / "by hand"))
    ours = observations(found.manifest, found.root)
    assert 1 < np.unique(by_hand.labels).size <= len(case.truth.classes)
    for field in ("features", "labels", "source_probs", "image_index"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(by_hand, field))


FAULTS: dict[str, Callable[[Scene], Scene]] = {
    "label flipped": lambda each: Scene(each.image, each.label[:, ::-1]),
    "label upside down": lambda each: Scene(each.image, each.label[::-1]),
    "label shifted": lambda each: Scene(each.image, np.roll(each.label, 1, axis=1)),
    "classes swapped": lambda each: Scene(each.image, np.array([0, 2, 1], np.uint8)[each.label]),
    "image turned": lambda each: Scene(each.image[::-1, ::-1].copy(), each.label),
    "channels swapped": lambda each: Scene(each.image[..., ::-1].copy(), each.label),
    "one level off": lambda each: Scene(each.image ^ 1, each.label),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_comparison_finds_a_planted_fault(fault: Callable[[Scene], Scene], tmp_path: Path) -> None:
    case = KINDS["gray_png"](tmp_path)
    found = inspected(case.given)
    wrong = {**case.truth.scenes, "images/b": fault(case.truth.scenes["images/b"])}
    with pytest.raises(AssertionError):
        assert_reads(found, replace(case.truth, scenes=wrong), tmp_path)
