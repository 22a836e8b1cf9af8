"""Kinds of folders that an inspection doubts: the audit of the manifest that it writes says the same."""

from pathlib import Path

import pytest
from data.corpus import doubtful_images, doubtful_masks
from data.corpus.cases import Given, Kind, answered, inspected, kinds_in

from seg_transfer.data.audit import AuditReport, audit
from seg_transfer.data.manifest import load_manifest

# What an inspection does not leave open in its manifest: files that pair up, columns, and a value for every name.
_DECIDED = {"columns", "unpaired", "first_id", "unseen", "levels", "instances"}
# Two doubts stay whatever is stated.
_STAY = {"ignored", "palettes"}
KINDS = kinds_in(doubtful_images) | kinds_in(doubtful_masks)


def audited(given: Given, file: Path) -> AuditReport:
    found = inspected(given)
    file.write_text(found.manifest.as_yaml(), encoding="utf-8")
    return audit(load_manifest(file), found.root)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_doubt_is_found_again_until_it_is_answered(kind: Kind, tmp_path: Path) -> None:
    case = kind(tmp_path)
    report = audited(case.given, tmp_path / "mine.yaml")
    found = {doubt.kind for doubt in report.doubts}
    if case.doubt not in _DECIDED:
        assert case.doubt in found or report.problems
    for option, outcome in case.readings.items():
        if not isinstance(outcome, str):
            settled = audited(answered(case.given, option), tmp_path / "mine.yaml")
            assert settled.problems == ()
            assert {doubt.kind for doubt in settled.doubts} <= _STAY
