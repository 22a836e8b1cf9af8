"""Metrics in a study that lack their library, fail, have something to note, or are made of others."""

import json
from collections import Counter

import yaml
from small_study import missing
from stand_in_metrics import scores_of

from seg_transfer.metrics import Metric

# Metrics whose library is not installed


def test_a_metric_without_its_library_is_skipped_in_one_line(bench, monkeypatch):
    monkeypatch.setattr(Metric, "installed", property(lambda metric: not metric.extra))
    bench.change(metrics=["otce", "gbc"])
    lines = bench.done("score-pairs").splitlines()
    assert lines[0] == "metric otce needs a library: pip install 'seg_transfer[ot]'; skipped"
    assert len(lines) == 3
    assert (len(scores_of(bench, "gbc")), scores_of(bench, "otce")) == (2, {})
    assert bench.done("score-pairs", "--dry-run") == "nothing is missing\n"
    monkeypatch.undo()
    bench.done("score-pairs")
    assert len(scores_of(bench, "otce")) == 2


# Metrics that fail


def test_a_failing_metric_leaves_the_others_and_is_reported_in_one_line(bench, seen):
    bench.change(metrics=["gbc", "faulty", "leep"])
    ended = bench.call("score-pairs")
    assert ended.reason(3) == (
        "day_street -> dusk_street, faulty: metric faulty needs a library that is not installed; install it"
    )
    failed = "failed: day_street -> dusk_street, faulty, day_street -> cells_dark, faulty; all others are finished"
    assert failed in ended.err.splitlines()[1]
    assert Counter(row["metric"] for row in bench.rows("scores")) == {"gbc": 2, "leep": 2}
    assert missing(bench, "score-pairs") == [
        f"day_street -> {target}: faulty" for target in ("dusk_street", "cells_dark")
    ]

    before = bench.state("scores")
    assert bench.call("score-pairs").code == 3
    assert bench.state("scores") == before


def test_the_scores_beside_a_failure_are_those_of_the_shared_pass(finished, copy_of, seen):
    bench = copy_of(finished)
    for file in bench.run.glob("scores/*/*.parquet"):
        file.unlink()
    bench.change(metrics=["gbc", "faulty", "leep"])
    bench.call("score-pairs")
    told = ("source", "target", "metric", "score", "standard_error", "content_key")
    expected = [[row[name] for name in told] for row in finished.rows("scores")]
    assert [[row[name] for name in told] for row in bench.rows("scores")] == expected


def test_a_bad_image_of_the_own_dataset_fails_what_looks_at_it_and_is_tried_once(bench, seen, decoded):
    file = bench.world / "day_street/train/images/train_0001.png"
    file.write_bytes(file.read_bytes()[:300])
    bench.change(metrics=["own", "gbc"])
    line = bench.call("score-pairs").reason(4)
    assert line.startswith(f"day_street -> dusk_street, own: {file}: cannot be decoded")
    assert Counter(row["metric"] for row in bench.rows("scores")) == {"gbc": 2}
    assert decoded["day_street/train/images/train_0001.png"] == 1


# Notes, and metrics that are made of others


def test_a_note_is_printed_and_kept(bench, seen):
    bench.change(metrics=["thin", "gbc"])
    lines = bench.done("score-pairs").splitlines()
    assert all(line.endswith(" s; thin fitted on 30 of 800 observations)") for line in lines)
    notes = {row["metric"]: row["note"] for row in bench.rows("scores")}
    assert notes == {"thin": "fitted on 30 of 800 observations", "gbc": ""}
    assert {row["schema_version"] for row in bench.rows("scores")} == {1}


def test_the_mean_rank_is_scored_by_its_parts_and_evaluated(finished, copy_of, seen, invoke):
    bench = copy_of(finished)
    bench.change(metrics=["rank_mean"])
    bench.done("score-pairs", "--target", "cells_dark")
    assert yaml.safe_load((bench.run / "study.yaml").read_text())["study"]["metrics"] == ["gbc", "nleep"]
    ended = invoke("evaluate", bench.run, "--json")
    names = [row["metric"] for row in json.loads(ended.out) if row["scenario"] == "fixed_target"]
    assert names[:3] == ["gbc", "nleep", "rank_mean"]
