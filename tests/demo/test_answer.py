"""The check of the demo's known answer detects other answers."""

import runpy
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest

from seg_transfer.demo.domains import DOMAINS

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "demo_answer.py"
wrong_answers = runpy.run_path(str(SCRIPT))["wrong_answers"]


@pytest.fixture
def pairs() -> pd.DataFrame:
    """Related sources are the best by both; scratch, which is no source, is better still."""
    rows = []
    for source, target in permutations(DOMAINS, 2):
        related = DOMAINS[source].family == DOMAINS[target].family
        rows.append((source, target, 0.4 + 0.2 * related, -2.0 + related, len(DOMAINS[target].classes)))
    rows += [("scratch", target, 0.9, float("nan"), len(DOMAINS[target].classes)) for target in DOMAINS]
    return pd.DataFrame(rows, columns=["source", "target", "miou", "gbc", "n_target_classes"])


def test_the_related_source_is_the_answer(pairs):
    assert wrong_answers(pairs) == []


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("miou", "day_street is best and gbc chooses cells_light"),
        ("gbc", "cells_light is best and gbc chooses day_street"),
    ],
)
def test_another_best_source_or_choice_is_named_with_its_target(pairs, column, said):
    pairs.loc[(pairs["source"] == "day_street") & (pairs["target"] == "cells_dark"), column] = 0.8
    assert wrong_answers(pairs) == [f"cells_dark: {said}; the related source is cells_light"]


def test_a_tie_is_another_answer(pairs):
    pairs.loc[pairs["target"] == "cells_dark", "gbc"] = -1.0
    (line,) = wrong_answers(pairs)
    assert line.startswith("cells_dark: cells_light is best and gbc chooses ")
