"""Readings of a study's networks: each is scored as its features say, in one pass, and nothing is repeated."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seg_transfer.metrics import gbc, ridge_probe
from seg_transfer.selection.readings import METRICS_OF_READINGS, VARIANTS, score_readings, stored_readings
from seg_transfer.stages.base import Item
from seg_transfer.stages.context import ScoringContext, observe
from seg_transfer.study.run import open_run

SCRIPT = Path(__file__).parents[2] / "scripts/mixed_banks.py"
PAIR = Item("day_street", "cells_dark")


@pytest.fixture
def study(finished: Any, copy_of: Any) -> Any:
    return copy_of(finished)


def test_every_reading_has_every_score_and_is_not_computed_again(study, caplog):
    caplog.set_level("INFO")
    run = open_run(study.study, study.world, study.run)
    score_readings(run, [PAIR])
    frame = pd.DataFrame(stored_readings(run)).set_index(["reading", "metric"])
    assert len(frame) == 4 * (len(METRICS_OF_READINGS) + len(VARIANTS))
    # All of the tiny HRNetV2's stages are at stride 4 and above, and are the maps of its encoder.
    shapes = frame[["n_features", "n_maps", "stride"]].groupby("reading").first()
    assert shapes.loc["last"].to_list() == [64, 1, 4]
    assert shapes.loc[["stages", "coarse", "encoder"]].to_numpy().tolist() == 3 * [[64, 4, 4]]
    context = ScoringContext.for_run(run)
    seen = observe(context, run.study.source(PAIR.source), context.target(PAIR.target))
    assert frame.loc[("last", "gbc"), "score"] == gbc(seen.features, seen.labels)
    assert frame.loc[("last", "ridge_probe"), "score"] == ridge_probe(seen.features, seen.labels, seen.image_index)
    assert frame.loc[("stages", "gbc"), "score"] != frame.loc[("last", "gbc"), "score"]
    # Of the last layer, from sampled features; of all stages, from the map of the scores: both in float32.
    assert frame.loc[("stages", "leep"), "score"] == pytest.approx(frame.loc[("last", "leep"), "score"], rel=1e-6)

    score_readings(run, [PAIR])
    assert caplog.messages == ["day_street -> cells_dark: 4 readings"]


def test_shards_of_the_script_are_targets(study):
    place = ["--data-root", str(study.world), "--run-folder", str(study.run)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(study.study), *place, "--shard", "1/3"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run = open_run(study.study, study.world, study.run)
    assert {row["target"] for row in stored_readings(run)} == {run.study.targets[1]}
