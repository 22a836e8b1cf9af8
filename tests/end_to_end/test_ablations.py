"""Ablations: every setting is scored and judged, the study's own setting gives its own numbers, nothing is repeated."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seg_transfer.evaluation import evaluate
from seg_transfer.metrics import gbc
from seg_transfer.selection.ablations import AS_IN_STUDY, COVARIANCES, DIMENSIONS, ablate_gbc, ablate_samples
from seg_transfer.stages.context import ScoringContext, observe
from seg_transfer.store.results import read_pairs, read_performance
from seg_transfer.study.run import open_run

SCRIPT = Path(__file__).parents[2] / "scripts/ablations.py"


@pytest.fixture
def study(finished: Any, copy_of: Any) -> Any:
    return copy_of(finished)


def row(frame: pd.DataFrame, ablation: str, setting: str, metric: str = "gbc") -> Any:
    chosen = (frame["ablation"] == ablation) & (frame["setting"] == setting) & (frame["metric"] == metric)
    (found,) = frame[chosen & (frame["scenario"] == "fixed_target")].to_dict("records")
    return found


def test_every_way_of_sampling_is_judged_and_the_study_s_own_gives_its_numbers(study, caplog):
    caplog.set_level("INFO")
    run = open_run(study.study, study.world, study.run)
    frame = ablate_samples(run, read_performance(study.run), images=(2, 4))
    # Balance "dataset" and grid "full" are the study's own way, which is scored once for both.
    assert len(caplog.messages) == (4 + 3 + 2 + 2 - 1) * 6
    settings = {ablation: set(rows["setting"]) for ablation, rows in frame.groupby("ablation")}
    assert settings == {
        "pixels per image": {"100", "300", "1000", "3000"},
        "balance": {"dataset", "image", "none"},
        "grid": {"full", "feature"},
        "images": {"2", "4"},
    }
    own = evaluate(read_pairs(study.run)[0])
    own = own[(own["metric"] == "gbc") & (own["scenario"] == "fixed_target")].iloc[0]
    for ablation, setting in (("balance", "dataset"), ("grid", "full"), ("images", "4")):
        found = row(frame, ablation, setting)
        assert (found["tau_w"], found["top1"]) == (own["tau_w"], own["top1"])
        assert (found["mean_difference"], found["ties"]) == (0, found["n_groups"])
    compared = frame[frame["mean_difference"].notna()]
    assert set(compared["metric"]) == {"gbc", "leep"}  # the others are none of the study's metrics
    assert (compared["mean_difference"] != 0).any()
    of_study = evaluate(read_pairs(study.run)[0]).set_index(["scenario", "metric"])["tau_w"]
    for found in compared[compared["n_groups_compared"] == compared["n_groups"]].to_dict("records"):
        gained = found["tau_w"] - of_study[found["scenario"], found["metric"]]
        assert found["mean_difference"] == pytest.approx(gained, abs=1e-12)
    scores = {name: pd.read_parquet(study.run / f"ablations/{name}/scores/day_street/cells_dark.parquet") for name in
              (AS_IN_STUDY, "balance-none", "images-2", "pixels-100")}  # fmt: skip
    values = {name: scored.set_index("metric")["score"]["gbc"] for name, scored in scores.items()}
    assert len(set(values.values())) == 4
    assert scores["pixels-100"]["n_observations"].iloc[0] == 400
    assert scores["images-2"]["n_images"].iloc[0] == 2


def test_gbc_has_a_score_for_every_setting_and_is_not_computed_again(study, caplog):
    caplog.set_level("INFO")
    run = open_run(study.study, study.world, study.run)
    frame = ablate_gbc(run, read_performance(study.run))
    assert len(caplog.messages) == 6
    assert frame["setting"].nunique() == len(COVARIANCES) * len(DIMENSIONS)
    stored = pd.read_parquet(study.run / "ablations/gbc/dusk_street/day_street.parquet")
    context = ScoringContext.for_run(run)
    seen = observe(context, run.study.source("dusk_street"), context.target("day_street"))
    of = stored.set_index(["covariance", "n_components"])["score"]
    assert of["full", 32] == gbc(seen.features, seen.labels, n_components=32, covariance="full")
    assert of["diagonal", 0] == gbc(seen.features, seen.labels, n_components=None)
    assert row(frame, "covariance and PCA", "diagonal, 64")["mean_difference"] == 0

    again = ablate_gbc(run, read_performance(study.run))
    assert len(caplog.messages) == 6
    pd.testing.assert_frame_equal(again, frame)


def test_the_script_prints_and_keeps_the_tables(study, tmp_path):
    place = ["--data-root", str(study.world), "--run-folder", str(study.run), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(study.study), *place, "--images", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "covariance and PCA, fixed target" in done.stdout
    assert "diagonal, none" in done.stdout
    kept = pd.read_parquet(tmp_path / "out/samples.parquet")
    assert {"ablation", "setting", "metric", "tau_w", "tau_w_low", "top1"} <= set(kept)
