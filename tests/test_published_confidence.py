"""What is shipped and said about leads is what the published studies give."""

import io
import json
import sys
from types import ModuleType

import loaded_scripts
import pandas as pd
import pytest
from page_text import RESULTS_PAGE, table
from PIL import Image

from seg_transfer.resources import shipped
from seg_transfer.store.confidence import CONFIDENCE_FILE

LAST_DIGIT = 1.1e-4
"""Of a stored number, rounded to four digits, on another processor."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded_scripts.script("calibrate_confidence")


@pytest.fixture(scope="module")
def by_metric(script: ModuleType) -> dict[str, dict[str, pd.DataFrame]]:
    return script.leads_by_metric(script.runs_by_study())


def test_the_shipped_slopes_are_those_of_the_published_studies(script: ModuleType, by_metric: dict) -> None:
    stored, found = json.loads(shipped(CONFIDENCE_FILE).read_text()), script.calibration(by_metric)
    assert list(stored) == sorted(found)
    for metric, row in found.items():
        for name, value in row.items():
            expected = pytest.approx(value, abs=LAST_DIGIT) if isinstance(value, float) else value
            assert stored[metric][name] == expected, (metric, name)
    assert {tuple(row["studies"]) for row in stored.values()} == {
        ("real11", "real7"),
        ("real11", "real7", "segmentation"),
    }
    assert all(row["ece"] is not None for row in stored.values())


def test_the_table_of_left_out_studies_says_what_the_script_says(script: ModuleType, by_metric: dict) -> None:
    stored = table(RESULTS_PAGE, "gbc, architectures")
    found = {f"{row.pop('metric')}, {row.pop('study')}": row for row in script.left_out_rows(by_metric)}
    of_all = {metric for metric, leads in by_metric.items() if len(leads) == 3}
    assert stored.keys() == {label for label in found if label.partition(",")[0] in of_all}
    for label, cells in stored.items():
        assert [float(cell) for cell in cells] == pytest.approx(list(found[label].values()), abs=6e-4), label


def test_two_runs_of_a_study_are_one_study_with_one_group_per_target(script: ModuleType) -> None:
    run = pd.DataFrame({"source": list("abc"), "target": "t", "miou": [0.3, 0.2, 0.1], "gbc": [1.0, 2.0, 3.0]})
    second = run.assign(gbc=-run["gbc"])
    leads = script.leads_by_metric({"study": [run, second]})["gbc"]["study"]
    assert len(leads) == 6
    assert set(leads["group"]) == {"t"}
    assert script.calibration({"gbc": {"study": leads}})["gbc"] == {
        "slope": 0.0,  # each order of the scores once
        "n_rival_pairs": 6,
        "studies": ["study"],
        "ece": None,
    }


def test_the_lead_of_the_first_over_the_second_by_hand(script: ModuleType) -> None:
    leads = pd.DataFrame(
        {
            "run": 0,
            "group": list("tttuuu"),
            "first": list("abacbc"),
            "second": list("bccaab"),
            "lead": [1.0, 0.5, 1.5, 2.0, 2.0, 0.0],  # in u, c and b are tied for first
            "won": [1.0, 0.0, 0.0, 1.0, 1.0, 0.5],
        }
    )
    assert script.first_two(leads, 0.0) == {"first_predicted": 0.5, "first_won": 0.75}
    certain = script.first_two(leads, 50.0)
    assert certain["first_predicted"] == pytest.approx((1 + 0.5) / 2)
    again = leads.assign(run=1, won=1.0, lead=[2.0, 2.0, 0.0, 1.0, 0.5, 1.5])  # other firsts: c leads b in t
    both = script.first_two(pd.concat([leads, again]), 50.0)
    alone = [script.first_two(run, 50.0) for run in (leads, again)]
    assert both == {name: pytest.approx((alone[0][name] + alone[1][name]) / 2) for name in both}


def test_the_script_writes_file_and_figure(
    script: ModuleType, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, figure = tmp_path / "confidence.json", tmp_path / "figures/confidence.png"
    monkeypatch.setattr(sys, "argv", ["calibrate", "--out", str(out), "--figure", str(figure)])
    script.main()
    said = capsys.readouterr().out
    assert "architectures" in said
    assert max(map(len, said.splitlines())) <= 80
    assert json.loads(out.read_text()).keys() == json.loads(shipped(CONFIDENCE_FILE).read_text()).keys()
    drawn, shown = (file.read_bytes() for file in (figure, shipped("data_manifests/published/figures/confidence.png")))
    assert Image.open(io.BytesIO(drawn)).size == Image.open(io.BytesIO(shown)).size
    assert figure.stat().st_size < 60_000
