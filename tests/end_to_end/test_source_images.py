"""Metrics that look at the source's own images: what they are given, their keys, and sources without such images."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stand_in_metrics import scores_of

from seg_transfer.features.extract import extract
from seg_transfer.features.images import TargetImages
from seg_transfer.observations import Observations
from seg_transfer.stages import context, score_keys
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.study.networks import loadable_source
from seg_transfer.study.run import open_run

OWN = "day_street/train"


def missing(workspace: Any) -> list[str]:
    return [item["item"] for item in json.loads(workspace.done("score-pairs", "--dry-run", "--json"))["missing"]]


def brought_along(workspace: Any, dataset: str) -> dict[str, str]:
    return {"name": "web", "dataset": dataset, "config": str(workspace.run / "sources/day_street/source.json")}


# What the metrics are given


def expected_own(workspace: Any) -> Observations:
    run = open_run(workspace.study, workspace.world, workspace.run)
    records = run.low_shot("day_street")
    short_side = min(run.manifests["day_street"].crop_size)
    model = loadable_source(run, run.study.source("day_street")).load()
    return extract(model, TargetImages(records, short_side), pixel_sample(run, "day_street", records))


@pytest.mark.parametrize("limit", [5000, 90])
def test_a_metric_sees_the_sources_own_images_as_if_they_were_a_target(workspace, seen, monkeypatch, limit):
    monkeypatch.setattr(score_keys, "SOURCE_OBSERVATIONS", limit)
    workspace.change(metrics=["own", "gbc"])
    workspace.done("score-pairs")
    expected = expected_own(workspace).subsample(limit, seed=0)
    assert len(seen) == 2
    for observations in seen:
        assert len(observations.labels) == 800
        own = observations.source_images
        for name in ("features", "labels", "source_probs", "image_index", "image_embeddings"):
            np.testing.assert_array_equal(getattr(own, name), getattr(expected, name))
    assert len(own.labels) == min(limit, 800)
    assert own.image_embeddings.shape == (4, 64)
    assert list(scores_of(workspace, "own").values()) == pytest.approx([np.mean(expected.features)] * 2)


def test_embeddings_are_those_of_the_target(workspace, seen):
    workspace.change(metrics=["pooled", "own"])
    workspace.done("score-pairs")
    by_target = scores_of(workspace, "pooled")
    assert len(set(by_target.values())) == 2
    assert list(by_target.values()) == pytest.approx([np.mean(one.image_embeddings) for one in reversed(seen)])
    assert [one.image_embeddings.shape for one in seen] == [(4, 64), (4, 64)]


def test_no_image_is_decoded_twice_for_the_same_purpose(trained, copy_of, seen, decoded):
    """Every target's images serve all its sources; those of a source's own dataset are seen once by that source."""
    workspace = copy_of(trained)
    workspace.change(metrics=["own"], targets=["dusk_street", "cells_dark"])
    workspace.done("score-pairs")
    times = {(name.split("/")[0], count) for name, count in decoded.items()}
    # A target's images for all its sources together, and again for the source that was trained on it.
    assert times == {("day_street", 1), ("dusk_street", 2), ("cells_dark", 2)}
    assert len(decoded) == 3 * 4
    assert len({id(one.source_images) for one in seen}) == 3


def test_without_such_a_metric_nothing_is_seen_of_the_sources_own_images(workspace, decoded, seen):
    shutil.rmtree(workspace.world / "day_street")
    workspace.done("score-pairs")
    assert {name.split("/")[0] for name in decoded} == {"dusk_street", "cells_dark"}
    assert sorted(path.stem for path in (workspace.run / "samples").iterdir()) == ["cells_dark", "dusk_street"]


# Content keys


def test_changed_source_images_make_stale_what_looked_at_them_and_nothing_else(workspace, seen):
    workspace.change(metrics=["own", "gbc"])
    workspace.done("score-pairs")
    before = workspace.rows("scores")
    assert workspace.done("score-pairs") == ""
    label = workspace.world / OWN / "labels/train_0002.png"
    pixels = np.array(Image.open(label))
    pixels[20, 30] = (pixels[20, 30] + 1) % 6
    Image.fromarray(pixels).save(label)
    # The card of the source is what counts for its weights, so only the metric that looks at the labels is stale.
    assert missing(workspace) == [f"day_street -> {target}: own" for target in ("dusk_street", "cells_dark")]
    workspace.done("score-pairs")
    after = workspace.rows("scores")
    assert [row for row in after if row["metric"] == "gbc"] == [row for row in before if row["metric"] == "gbc"]
    keys = [{row["content_key"] for row in rows if row["metric"] == "own"} for rows in (before, after)]
    assert keys[0].isdisjoint(keys[1])


def test_the_keys_of_other_metrics_do_not_know_of_source_images(workspace, seen):
    workspace.done("score-pairs")
    alone = {(row["target"], row["metric"]): row["content_key"] for row in workspace.rows("scores")}
    workspace.change(metrics=["own", "gbc", "leep"])
    workspace.done("score-pairs")
    together = {(row["target"], row["metric"]): row["content_key"] for row in workspace.rows("scores")}
    assert alone.items() <= together.items()
    assert len(together) == 6


def test_another_number_of_source_observations_is_another_score(workspace, seen, monkeypatch):
    workspace.change(metrics=["own"])
    workspace.done("score-pairs")
    monkeypatch.setattr(score_keys, "SOURCE_OBSERVATIONS", 300)
    assert len(missing(workspace)) == 2


def test_kept_features_serve_source_images_too(workspace, seen, monkeypatch):
    workspace.change(keep_features=True, metrics=["own", "pooled"])
    workspace.done("score-pairs")
    first = {name: scores_of(workspace, name) for name in ("own", "pooled")}
    assert sorted(path.stem for path in workspace.run.glob("features/day_street/*")) == [
        "cells_dark",
        "day_street",
        "dusk_street",
    ]
    assert seen[0].source_images.features.dtype == seen[0].image_embeddings.dtype == np.float16
    for file in workspace.run.glob("scores/*/*.parquet"):
        file.unlink()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ran the network again")

    monkeypatch.setattr(context, "extract_readings", refuse)
    workspace.done("score-pairs")
    assert {name: scores_of(workspace, name) for name in ("own", "pooled")} == first


# Sources whose own images are not available


def test_a_source_of_an_unknown_dataset_is_scored_by_the_other_metrics(finished, copy_of, seen, invoke):
    workspace = copy_of(finished)
    workspace.change(sources=["day_street", brought_along(workspace, "photographs")], metrics=["own", "gbc"])
    line = "source web: its own images are not in this study (dataset photographs has no manifest); skipped own"
    lines = workspace.done("score-pairs").splitlines()
    assert lines[0] == line
    assert [one.split(":")[0] for one in lines[1:]] == [
        "web -> day_street",
        "day_street -> dusk_street",
        "web -> dusk_street",
        "day_street -> cells_dark",
        "web -> cells_dark",
    ]
    assert {source for source, _ in scores_of(workspace, "own")} == {"day_street"}
    assert len(scores_of(workspace, "gbc")) == 2 + 3 + 4  # those of the sources that the study no longer names stay

    before = workspace.state("scores")
    assert workspace.done("score-pairs") == f"{line}\n"
    assert workspace.state("scores") == before
    assert workspace.done("score-pairs", "--dry-run") == "nothing is missing\n"

    workspace.done("finetune-pairs")
    ended = invoke("evaluate", workspace.run, "--json")
    assert ended.code == 0
    assert ended.err.endswith("to other settings: own (no score of web)\n")
    assert {row["metric"] for row in json.loads(ended.out) if row["kind"] == "metric"} == {"gbc"}


def test_a_brought_along_source_whose_dataset_has_a_manifest_is_scored_by_all(workspace, seen):
    workspace.change(sources=["day_street", brought_along(workspace, "day_street")], metrics=["own"])
    workspace.done("score-pairs")
    own = scores_of(workspace, "own")
    assert own["web", "cells_dark"] == own["day_street", "cells_dark"]


@pytest.mark.parametrize("empty", [False, True])
def test_missing_files_of_the_own_dataset_are_reported_once_with_the_folder(workspace, seen, empty):
    shutil.rmtree(workspace.world / "day_street")
    if empty:
        (workspace.world / "day_street").mkdir()
    workspace.change(metrics=["own", "gbc"])
    lines = workspace.done("score-pairs").splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("source day_street: its own images are missing (day_street train: ")
    assert str(workspace.world / "day_street") in lines[0]
    assert lines[0].endswith("; skipped own")
    assert (len(scores_of(workspace, "gbc")), scores_of(workspace, "own")) == (2, {})
    assert workspace.done("score-pairs", "--dry-run") == "nothing is missing\n"


def test_a_source_that_has_nothing_but_skipped_metrics_is_no_failure(workspace, seen):
    workspace.change(sources=[brought_along(workspace, "photographs")], metrics=["own"])
    assert len(workspace.done("score-pairs").splitlines()) == 1
    assert workspace.rows("scores") == []
