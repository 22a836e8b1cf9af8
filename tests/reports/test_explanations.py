"""Explanations as tables and as data: names, order, and the two best sources of every target."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from seg_transfer.reports.explanations import ExplainedPair, explanation_dict, explanation_tables
from seg_transfer.reports.tables import render

NAMES = ["sky", "road [main]", "car", "tram"]


def explained(source, target, overlaps):
    """`overlaps` of the classes 0, 1 and 3; class 2 was not sampled."""
    pairs = pd.DataFrame({"class_a": [0, 0, 1], "class_b": [1, 3, 3], "overlap": overlaps})
    classes = pd.DataFrame({"class_index": range(4), "name": NAMES, "n_pixels": [10, 20, 0, 5]})
    plane = pd.DataFrame({"x": [0.0], "y": [1.0], "label": [3], "image_index": [0]})
    plane.attrs = {"method": "pca", "explained": [0.6, 0.2], "n_observations": 35}
    return ExplainedPair(source, target, {"overlaps": pairs, "classes": classes, "map": plane})


@pytest.fixture
def pairs():
    return [
        explained("worst", "town", [0.9, 0.8, 0.7]),
        explained("best", "town", [0.1, 0.2, 0.05]),
        explained("second", "town", [0.1, 0.5, 0.15]),
        explained("alone", "field", [0.3, 0.2, 0.1]),
    ]


def text_of(tables, width=80):
    console = Console(file=io.StringIO(), width=width)
    render(tables, console)
    return console.file.getvalue()


def test_every_pair_shows_the_classes_that_overlap_most_first(pairs):
    lines = [line.strip() for line in text_of(explanation_tables(pairs)).splitlines()]
    start = lines.index("second -> town: GBC -1.5")
    shown = [line.split("  ")[0] for line in lines[start + 4 : start + 7]]
    assert shown == ["sky / tram", "road [main] / tram", "sky / road [main]"]


def test_the_two_best_sources_of_a_target_are_compared(pairs):
    text = text_of(explanation_tables(pairs))
    assert "town: GBC of best above that of second by 0.8" in text
    assert "field: GBC of" not in text
    # 0/3: 0.3 better, 1/3: 0.1 better; twice each, half to each class.
    rows = [line.split() for line in text[text.index("classes that decide") :].splitlines()[2:5]]
    assert rows == [["tram", "+0.4000"], ["sky", "+0.3000"], ["road", "[main]", "+0.1000"]]


def test_plain_data_match_the_tables_and_are_json(pairs):
    found = explanation_dict(pairs)
    assert json.loads(json.dumps(found)) == found
    assert [(pair["source"], pair["target"]) for pair in found["pairs"]] == [
        (pair.source, pair.target) for pair in pairs
    ]
    assert found["pairs"][1]["gbc"] == pytest.approx(-2 * (0.1 + 0.2 + 0.05))
    assert [one["overlap"] for one in found["pairs"][1]["overlaps"]] == [0.2, 0.1, 0.05]
    assert found["pairs"][1]["map"]["method"] == "pca"
    (difference,) = found["differences"]
    assert (difference["first"], difference["second"]) == ("best", "second")
    assert difference["difference"] == pytest.approx(0.8)
    parts = {one["name"]: one["part"] for one in difference["classes"]}
    assert parts == pytest.approx({"sky": 0.3, "road [main]": 0.1, "tram": 0.4})
    assert np.sum(list(parts.values())) == pytest.approx(difference["difference"])


def test_tables_fit_a_narrow_terminal(pairs):
    assert max(map(len, text_of(explanation_tables(pairs)).splitlines())) <= 80


def test_no_pairs_give_no_tables():
    assert explanation_tables([]) == []
    assert explanation_dict([]) == {"pairs": [], "differences": []}
