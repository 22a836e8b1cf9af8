"""What neighbors and probes gain from pixels of the image that they predict."""

import shutil
from dataclasses import replace
from types import ModuleType
from typing import Any

import loaded_scripts
import numpy as np
import pandas as pd
import pytest

from seg_transfer.metrics import knn, ridge_probe
from seg_transfer.observations import Observations
from seg_transfer.stages.context import ScoringContext, observe
from seg_transfer.study.run import open_run


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded_scripts.script("probe_leakage")


def test_what_only_pixels_of_the_same_image_know_is_the_gain(script):
    """Every image has a class and an offset of its own, and every offset its direction: a plane separates pixels."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(40), 25)
    features = 5 * np.eye(40)[images] + 0.1 * rng.normal(size=(1000, 40))
    labels = np.random.default_rng(1).permutation(np.arange(40) % 2)[images]
    scores = script.leakage(Observations(features, labels, image_index=images))
    assert scores["knn_same_image"] == scores["ridge_probe_same_image"] == 1.0
    assert scores["knn"] < 0.65
    assert scores["ridge_probe"] < 0.65


def test_both_ways_see_the_same_pixels(script, monkeypatch):
    rng = np.random.default_rng(2)
    labels, images = rng.integers(3, size=300), np.sort(rng.integers(5, size=300))
    observations = Observations(rng.normal(size=(300, 4)) + labels[:, None], labels, image_index=images)
    few = replace(script.METRICS["knn"], settings={"k": 20, "max_observations": 100, "seed": 0})
    monkeypatch.setattr(script, "METRICS", {**script.METRICS, "knn": few})
    scores, sample = script.leakage(observations, seed=3), observations.subsample(100, 3)
    assert scores == {
        "knn": knn(sample.features, sample.labels, sample.image_index),
        "knn_same_image": knn(sample.features, sample.labels, np.arange(100)),
        "ridge_probe": ridge_probe(observations.features, labels, images),
        "ridge_probe_same_image": ridge_probe(observations.features, labels, np.arange(300)),
    }


def test_every_pair_of_a_source_that_is_there_has_a_row(script, trained: Any, copy_of: Any, tmp_path, capsys):
    study = copy_of(trained)
    shutil.rmtree(study.run / "sources/cells_dark")
    script.main([*study.place(), "--out", str(tmp_path / "leakage.parquet")])
    said, pairs = capsys.readouterr().out, pd.read_parquet(tmp_path / "leakage.parquet")
    assert set(zip(pairs["source"], pairs["target"], strict=True)) == {
        *(("day_street", target) for target in ("dusk_street", "cells_dark")),
        *(("dusk_street", target) for target in ("day_street", "cells_dark")),
    }
    run = open_run(study.study, study.world, study.run)
    context = ScoringContext.for_run(run)
    seen = observe(context, run.study.source("day_street"), context.target("cells_dark"))
    row = pairs.set_index(["source", "target"]).loc["day_street", "cells_dark"]
    assert row["knn"] == knn(seen.features, seen.labels, seen.image_index)
    of_target = 100 * pairs[pairs["target"] == "cells_dark"].mean(numeric_only=True)
    line = next(line for line in said.splitlines() if line.startswith(" cells_dark"))
    gain = of_target["knn_same_image"] - of_target["knn"]
    assert line.split()[:5] == [
        *("cells_dark", "2", f"{of_target['knn']:.1f}", f"{of_target['knn_same_image']:.1f}", f"{gain:+.1f}")
    ]
    assert "all pairs" in said
