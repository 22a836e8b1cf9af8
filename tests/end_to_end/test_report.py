"""The report command on a finished run folder, on one that is only scored, and on the published pairs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from report_inputs import ATTACK, Parsed, table_rows

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import evaluate
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.explanations import explanation_file, write_explanation
from seg_transfer.store.results import read_pairs

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The folder of a report of the finished study, with optional parts, and what the command printed."""
    folder = tmp_path_factory.mktemp("report_command")
    run = folder / "run"
    shutil.copytree(finished.run, run)
    draws = pd.DataFrame(
        {"n_images": [2, 4], "seed": 0, "winner": "dusk_street", "tau_w_to_full": [0.5, 1.0], "n_tied": 1}
    )
    draws.to_parquet(run / "stability.parquet")
    origin = {"settings_key": settings_key("scores", yaml.safe_load((run / "study.yaml").read_text()), "day_street")}
    frames = {
        "overlaps": ([0, 0, 1], [1, 2, 2], [0.75, 0.125, 0.5]),
        "classes": ([0, 1, 2], ["road", ATTACK, "sky"], [20, 20, 20]),
        "map": ([0.0, 1.0, 2.0], [0.0, 1.0, 0.5], [0, 1, 2], [0, 0, 1]),
    }
    for name, columns in frames.items():
        write_explanation(explanation_file(run, "dusk_street", "day_street", name), columns, "k", origin, {})
    return run


def test_a_finished_run(written, invoke):
    ended = invoke("report", written, "--json")
    assert (ended.code, ended.err) == (0, "")
    files = json.loads(ended.out)
    assert files[0] == str(written / "report" / "report.html")
    text = (written / "report" / "report.html").read_text("utf-8")
    parsed = Parsed(text)
    assert parsed.text_in("h1") == ["Study tiny: which source should be fine-tuned?"]
    for name in ("evaluation", "stability", "explanations", "cost", "cards"):
        assert f'section id="{name}"' in text
    _, *rows = table_rows(text, "evaluation")
    expected = evaluate(read_pairs(written)[0])
    np.testing.assert_array_equal([float(row[6] or "nan") for row in rows], expected["tau_w"])
    assert table_rows(text, "overlaps_0")[1:] == [
        [ATTACK, "road", "0.75"],
        [ATTACK, "sky", "0.5"],
        ["road", "sky", "0.125"],
    ]
    _, *cards = table_rows(text, "sources")
    assert sorted(row[0] for row in cards) == ["cells_dark", "day_street", "dusk_street"]
    keys = pd.read_parquet(written / "report" / "scores.parquet")
    assert keys["content_key"].str.fullmatch("[0-9a-f]{64}").all()
    assert len(keys) == 6 * 2
    assert "study.sampling.pixels_per_image" in parsed.text_in("td")


def test_a_second_time_gives_the_same_bytes(written, invoke, tmp_path):
    for name in ("one", "two"):
        assert invoke("report", written, "--out", tmp_path / name).code == 0
    one, two = ((tmp_path / name / "report.html").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_run_that_is_only_scored(finished, invoke, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished.run, run, ignore=shutil.ignore_patterns("performance"))
    ended = invoke("report", run, "--out", tmp_path / "report")
    assert (ended.code, ended.err) == (0, "")
    text = (tmp_path / "report" / "report.html").read_text("utf-8")
    answers = " ".join(Parsed(text).text_in("strong") + Parsed(text).text_in("dd"))
    assert "For day_street: fine-tune" in answers
    assert "No pair is fine-tuned yet" in answers
    assert "Scoring pairs:" in answers
    assert not (tmp_path / "report" / "evaluation.csv").exists()


def test_a_missing_pair_is_named_and_the_rest_is_reported(finished, invoke, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished.run, run)
    (run / "scores" / "day_street" / "cells_dark.parquet").unlink()
    (run / "performance" / "dusk_street" / "cells_dark.parquet").unlink()
    assert invoke("report", run, "--out", tmp_path / "report").code == 0
    text = " ".join(Parsed((tmp_path / "report" / "report.html").read_text("utf-8")).text_in("strong"))
    assert "Without valid scores: 1 of 6 pairs (day_street -> cells_dark)." in text


def test_a_folder_that_is_no_run(invoke, tmp_path):
    ended = invoke("report", tmp_path)
    assert "study.yaml: no such file" in ended.reason(ResultsError.exit_code)


def test_nothing_scored(finished, invoke, tmp_path):
    shutil.copy2(finished.run / "study.yaml", tmp_path)
    assert "no pair has valid scores; run score-pairs" in invoke("report", tmp_path).reason(ResultsError.exit_code)


@pytest.mark.parametrize("damage", ["cut", "column"])
def test_a_damaged_optional_file_is_named(written, invoke, tmp_path, damage):
    run = tmp_path / "run"
    shutil.copytree(written, run)
    file = run / "stability.parquet"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        pd.DataFrame({"n_images": [1]}).to_parquet(file)
    reason = invoke("report", run).reason(ResultsError.exit_code)
    assert str(file) in reason
    assert ("damaged" if damage == "cut" else "lacks column seed") in reason


def test_either_a_run_or_the_published_pairs(invoke, tmp_path):
    assert invoke("report").code == 2
    assert invoke("report", tmp_path, "--published").code == 2


def test_the_help_has_an_example(invoke):
    assert "Example: seg-transfer report" in invoke("report", "--help").out


def test_the_script_is_the_same_command_and_does_not_import_torch(written, invoke, tmp_path):
    assert invoke("report", written).code == 0
    words = [sys.executable, "-X", "importtime", SCRIPTS / "report.py", written, "--out", tmp_path]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (tmp_path / "report.html").read_bytes() == (written / "report" / "report.html").read_bytes()
    assert shown.stdout.startswith(f"{tmp_path / 'report.html'}: open it in a browser")
    modules = {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines()}
    assert "seg_transfer.reports.page" in modules
    assert not modules & {"torch", "mmengine", "matplotlib.pyplot"}
