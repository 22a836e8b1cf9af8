"""Why a source is not ranked: the reasons of its own pair, and of no other whose name only begins alike."""

import pytest

from seg_transfer.errors import IncompleteError
from seg_transfer.selection.source_scores import skip_reason
from seg_transfer.stages.base import Item


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ({"net -> city": "no weights"}, "no weights"),
        ({"net -> city, gbc": "one class", "net -> city, leep": "one class"}, "one class"),
        ({"net -> city, leep": "no classes", "net -> city, gbc": "one class"}, "one class; no classes"),
        ({"net -> cityscapes": "x", "a net -> city": "x", "net2 -> city": "x"}, "cannot be scored by gbc, leep"),
        (None, "cannot be scored by gbc, leep"),
    ],
)
def test_reasons_are_those_of_the_pair_and_its_metrics(reasons, why):
    failed = None if reasons is None else IncompleteError("failed", reasons=reasons)
    pair = Item("net", "city")
    assert skip_reason(pair, failed, ["gbc", "leep"]).removesuffix("; choose another metric") == why
