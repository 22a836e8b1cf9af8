"""Metrics in a study that lack their library, fail, have something to note, or are made of others."""

import json
from collections import Counter

import yaml
from small_study import missing
from stand_in_metrics import scores_of

from seg_transfer.metrics import Metric

# Metrics whose library is not installed


def test_a_metric_without_its_library_is_skipped_in_one_line(workspace, monkeypatch):
    monkeypatch.setattr(Metric, "installed", property(lambda metric: not metric.extra))
    workspace.change(metrics=["otce", "gbc"])
    lines = workspace.done("score-pairs").splitlines()
    assert lines[0] == "metric otce needs a library: pip install 'seg_transfer[ot]'; skipped"
    assert len(lines) == 3
    assert (len(scores_of(workspace, "gbc")), scores_of(workspace, "otce")) == (2, {})
    assert workspace.done("score-pairs", "--dry-run") == "nothing is missing\n"
    monkeypatch.undo()
    workspace.done("score-pairs")
    assert len(scores_of(workspace, "otce")) == 2


# Metrics that fail


def test_a_failing_metric_leaves_the_others_and_is_reported_in_one_line(workspace, seen):
    workspace.change(metrics=["gbc", "faulty", "leep"])
    ended = workspace.call("score-pairs")
    assert ended.reason(3) == (
        "day_street -> dusk_street, faulty: metric faulty needs a library that is not installed; install it"
    )
    failed = "failed: day_street -> dusk_street, faulty, day_street -> cells_dark, faulty; all others are finished"
    assert failed in ended.err.splitlines()[1]
    assert Counter(row["metric"] for row in workspace.rows("scores")) == {"gbc": 2, "leep": 2}
    assert missing(workspace, "score-pairs") == [
        f"day_street -> {target}: faulty" for target in ("dusk_street", "cells_dark")
    ]

    before = workspace.state("scores")
    assert workspace.call("score-pairs").code == 3
    assert workspace.state("scores") == before


def test_the_scores_beside_a_failure_are_those_of_the_shared_pass(finished, copy_of, seen):
    workspace = copy_of(finished)
    for file in workspace.run.glob("scores/*/*.parquet"):
        file.unlink()
    workspace.change(metrics=["gbc", "faulty", "leep"])
    workspace.call("score-pairs")
    reported = ("source", "target", "metric", "score", "standard_error", "content_key")
    expected = [[row[name] for name in reported] for row in finished.rows("scores")]
    assert [[row[name] for name in reported] for row in workspace.rows("scores")] == expected


def test_a_bad_image_of_the_own_dataset_fails_what_looks_at_it_and_is_tried_once(workspace, seen, decoded):
    file = workspace.world / "day_street/train/images/train_0001.png"
    file.write_bytes(file.read_bytes()[:300])
    workspace.change(metrics=["own", "gbc"])
    line = workspace.call("score-pairs").reason(4)
    assert line.startswith(f"day_street -> dusk_street, own: {file}: cannot be decoded")
    assert Counter(row["metric"] for row in workspace.rows("scores")) == {"gbc": 2}
    assert decoded["day_street/train/images/train_0001.png"] == 1


# Notes, and metrics that are made of others


def test_a_note_is_printed_and_kept(workspace, seen):
    workspace.change(metrics=["thin", "gbc"])
    lines = workspace.done("score-pairs").splitlines()
    assert all(line.endswith(" s; thin fitted on 30 of 800 observations)") for line in lines)
    notes = {row["metric"]: row["note"] for row in workspace.rows("scores")}
    assert notes == {"thin": "fitted on 30 of 800 observations", "gbc": ""}
    assert {row["schema_version"] for row in workspace.rows("scores")} == {1}


def test_the_mean_rank_is_scored_by_its_parts_and_evaluated(finished, copy_of, seen, invoke):
    workspace = copy_of(finished)
    workspace.change(metrics=["rank_mean"])
    workspace.done("score-pairs", "--target", "cells_dark")
    parts = ["gbc", "logme", "nleep"]  # of both questions
    assert yaml.safe_load((workspace.run / "study.yaml").read_text())["study"]["metrics"] == parts
    ended = invoke("evaluate", workspace.run, "--json")
    names = [row["metric"] for row in json.loads(ended.out) if row["scenario"] == "fixed_target"]
    assert names[:4] == [*parts, "rank_mean"]
