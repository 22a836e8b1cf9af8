"""Every stage of a small study: what it leaves, what a second run does, and what its options do."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_study import DOMAINS, PAIRS, by_pair, missing, pairs_of

from seg_transfer.demo import domains
from seg_transfer.stages import context, training
from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.store.source_card import read_source_card

STAGES = ("train-sources", "score-pairs", "finetune-pairs")


# What is there when all is done


def test_every_source_leaves_its_weights_and_a_card_that_describes_them(trained):
    assert sorted(path.name for path in (trained.run / "sources").iterdir()) == sorted(DOMAINS)
    for name in DOMAINS:
        folder = trained.run / "sources" / name
        assert sorted(path.name for path in folder.iterdir()) == ["load.py", "source.json", "weights.safetensors"]
        card = read_source_card(folder / "source.json")
        assert (card.source, card.dataset, card.classes) == (name, name, domains.DOMAINS[name].classes)
        assert (card.steps, card.seed, card.initialisation) == (4, 0, "random")
        assert (card.n_train_images, card.n_eval_images) == (6, 2)
        assert card.schedule["learning_rate"] == 0.05
        assert card.model["decode_head"]["num_classes"] == len(card.classes)
        manifest = yaml.safe_load((trained.world / "manifests" / f"{name}.yaml").read_text())
        np.testing.assert_allclose(card.model["data_preprocessor"]["mean"], 255 * np.array(manifest["mean"]))
        assert card.sha256 == sha256_of_file(folder / "weights.safetensors")
        present = [iou for iou in card.class_iou if iou is not None]
        assert card.miou == pytest.approx(np.mean(present), rel=1e-12)
        assert 0 < card.miou < 1


def test_every_pair_has_a_row_per_metric_and_no_source_is_scored_on_its_own_dataset(finished):
    rows = finished.rows("scores")
    assert pairs_of(rows) == [pair for pair in PAIRS for _ in range(2)]
    assert [row["metric"] for row in rows] == ["gbc", "leep"] * 6
    for row in rows:
        assert (row["n_images"], row["n_observations"]) == (4, 4 * 200)
        assert row["n_classes"] <= len(domains.DOMAINS[row["target"]].classes)
        assert row["n_source_classes"] == len(domains.DOMAINS[row["source"]].classes)
        assert row["score"] < 0 < row["standard_error"]
    assert len({row["score"] for row in rows}) == len({row["content_key"] for row in rows}) == len(rows)
    samples = sorted(path.stem for path in (finished.run / "samples").iterdir())
    assert samples == sorted(DOMAINS)


def test_every_pair_and_scratch_on_every_target_has_a_performance(finished):
    rows = finished.rows("performance")
    assert pairs_of(rows) == [*PAIRS, *(("scratch", target) for target in sorted(DOMAINS))]
    for row in rows:
        assert (row["seed"], row["steps"], row["n_train_images"], row["n_eval_images"]) == (0, 4, 4, 2)
        assert len(row["class_iou"]) == len(domains.DOMAINS[row["target"]].classes)
        assert row["miou"] == pytest.approx(np.mean([iou for iou in row["class_iou"] if iou is not None]), rel=1e-12)
    assert len({row["miou"] for row in rows}) == len(rows)
    assert list((finished.run / "fine_tuning").rglob("*.pth")) == []


def test_the_evaluation_compares_scores_with_performance(finished, invoke):
    table = invoke("evaluate", finished.run)
    assert (table.code, table.err) == (0, "")
    assert all(word in table.out for word in ("gbc", "leep", "scratch", "top-1", "tau_w", *DOMAINS))
    measures = json.loads(invoke("evaluate", finished.run, "--json").out)
    top1 = {(row["scenario"], row["metric"]): row["top1"] for row in measures}
    miou = {(row["source"], row["target"]): row["miou"] for row in finished.rows("performance")}
    score = {(row["source"], row["target"]): row["score"] for row in finished.rows("scores") if row["metric"] == "gbc"}
    hits = []
    for target in DOMAINS:
        rivals = [pair for pair in PAIRS if pair[1] == target]
        hits.append(max(rivals, key=lambda pair: miou[pair]) == max(rivals, key=lambda pair: score[pair]))
    assert top1["fixed_target", "gbc"] == pytest.approx(np.mean(hits))


def test_old_and_new_scores_are_not_mixed(finished, copy_of, invoke):
    workspace = copy_of(finished)
    workspace.change(sampling={"pixels_per_image": 17})
    workspace.done("score-pairs", "--source", "day_street", "--target", "dusk_street")
    ended = invoke("evaluate", workspace.run, "--json")
    others = [f"{source} -> {target}" for source, target in PAIRS if (source, target) != ("day_street", "dusk_street")]
    assert sorted(ended.err.strip().rpartition(": ")[2].split(", ")) == sorted(others)


def test_pairs_without_a_performance_are_named_and_left_out(finished, copy_of, invoke):
    workspace = copy_of(finished)
    (workspace.run / "performance/cells_dark/dusk_street.parquet").unlink()
    ended = invoke("evaluate", workspace.run, "--json")
    assert ended.code == 0
    assert ended.err == (
        "seg-transfer: left out because scores or performance are missing or belong to other settings: "
        "cells_dark -> dusk_street\n"
    )


# A second run


def test_a_second_run_of_every_stage_changes_no_byte(finished, copy_of):
    workspace = copy_of(finished)
    before = workspace.state()
    for stage in STAGES:
        assert workspace.done(stage) == ""
        assert workspace.done(stage, "--dry-run") == "nothing is missing\n"
    assert workspace.state() == before
    assert len(before) == 9 + 3 + 3 + 6 + 9


def test_one_more_metric_adds_its_rows_and_leaves_the_others_as_they_are(finished, copy_of):
    workspace = copy_of(finished)
    workspace.change(metrics=["gbc", "leep", "h_score"])
    assert missing(workspace, "score-pairs") == [f"{s} -> {t}: h_score" for t in DOMAINS for s in DOMAINS if s != t]
    workspace.done("score-pairs")
    rows = workspace.rows("scores")
    assert [row for row in rows if row["metric"] != "h_score"] == finished.rows("scores")
    assert pairs_of([row for row in rows if row["metric"] == "h_score"]) == PAIRS


# Options


def test_kept_features_give_the_same_scores_again_without_any_image(trained, copy_of, monkeypatch):
    workspace = copy_of(trained)
    workspace.change(keep_features=True, targets=["cells_dark"])
    workspace.done("score-pairs")
    first = workspace.rows("scores")
    banks = sorted(str(path.relative_to(workspace.run)) for path in workspace.run.glob("features/*/*"))
    assert banks == [f"features/{source}/cells_dark.parquet" for source in ("day_street", "dusk_street")]

    for file in workspace.run.glob("scores/*/*.parquet"):
        file.unlink()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ran the network again")

    monkeypatch.setattr(context, "extract_readings", refuse)
    workspace.change(metrics=["gbc", "leep", "logme"])
    workspace.done("score-pairs")
    again = [row for row in workspace.rows("scores") if row["metric"] != "logme"]
    reported = ("source", "target", "metric", "score", "standard_error", "content_key", "n_observations")
    assert [[row[name] for name in reported] for row in again] == [[row[name] for name in reported] for row in first]


def test_kept_features_are_rounded_so_their_scores_have_keys_of_their_own(finished, copy_of):
    workspace = copy_of(finished)
    workspace.change(keep_features=True)
    workspace.done("score-pairs", "--source", "day_street", "--target", "cells_dark")
    new, old = by_pair(workspace.rows("scores")), by_pair(finished.rows("scores"))
    name = ("day_street", "cells_dark", "leep")
    assert new[name]["content_key"] != old[name]["content_key"]
    assert new[name]["score"] == pytest.approx(old[name]["score"], rel=1e-3)


def test_a_dry_run_lists_what_is_missing_with_its_cost_and_computes_nothing(trained, copy_of):
    workspace = copy_of(trained)
    before = workspace.state()
    lines = workspace.done("score-pairs", "--dry-run").splitlines()
    expected = [f"missing: {s} -> {t}: gbc, leep, about " for t in DOMAINS for s in DOMAINS if s != t]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=False)] == expected
    assert all(line.endswith("(from a timed forward pass)") for line in lines[:-1])
    assert lines[-1].startswith("6 missing, about ")

    reported = json.loads(workspace.done("finetune-pairs", "--dry-run", "--json"))
    assert len(reported["missing"]) == 9
    assert all(item["seconds"] > 0 for item in reported["missing"])
    assert reported["total_seconds"] == pytest.approx(sum(item["seconds"] for item in reported["missing"]))
    assert workspace.state() == before


def test_a_sample_drawn_beforehand_is_the_one_that_is_scored(finished, copy_of, invoke):
    workspace = copy_of(finished)
    before = workspace.state("samples")
    for file in workspace.run.glob("s[ac]*/**/*.parquet"):
        file.unlink()
    drawn = invoke("sample", *workspace.place())
    file = workspace.run / "samples/cells_dark.parquet"
    assert (drawn.code, drawn.err) == (0, "")
    assert f"cells_dark: 800 pixels of 4 images in {file}\n" in drawn.out
    times = {name: time for name, (time, _) in workspace.state("samples").items()}
    workspace.done("score-pairs", "--target", "cells_dark")
    after = workspace.state("samples")
    assert {name: time for name, (time, _) in after.items()} == times
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_a_source_and_a_target_that_are_named_are_the_only_ones(trained, copy_of):
    workspace = copy_of(trained)
    workspace.done("score-pairs", "--source", "day_street", "--source", "cells_dark", "--target", "dusk_street")
    assert sorted(set(pairs_of(workspace.rows("scores")))) == [
        ("cells_dark", "dusk_street"),
        ("day_street", "dusk_street"),
    ]
    workspace.done("finetune-pairs", "--source", "scratch", "--target", "cells_dark")
    assert pairs_of(workspace.rows("performance")) == [("scratch", "cells_dark")]
    assert [path.name for path in (workspace.run / "samples").iterdir()] == ["dusk_street.parquet"]


def test_every_seed_of_fine_tuning_is_a_row_and_a_seed_given_up_does_not_count(finished, copy_of, invoke):
    workspace = copy_of(finished)
    tuning = yaml.safe_load(workspace.study.read_text())["fine_tuning"]
    workspace.change(fine_tuning={**tuning, "seeds": [0, 1], "scratch": False}, targets=["cells_dark"])
    workspace.done("finetune-pairs")
    rows = [
        row for row in workspace.rows("performance") if row["target"] == "cells_dark" and row["source"] != "scratch"
    ]
    assert [(row["source"], row["seed"]) for row in rows] == [
        (source, seed) for source in ("day_street", "dusk_street") for seed in (0, 1)
    ]
    assert [row for row in rows if row["seed"] == 0] == [
        row for row in finished.rows("performance") if row["target"] == "cells_dark" and row["source"] != "scratch"
    ]
    assert rows[0]["miou"] != rows[1]["miou"]
    assert "Fine-tuning noise: seeds of a pair differ by 0." in invoke("evaluate", workspace.run).out

    workspace.change(fine_tuning={**tuning, "seeds": [1, 2]})
    assert workspace.call("score-pairs").code == 0
    ended = invoke("evaluate", workspace.run)
    assert ended.code == 7
    assert "no pair has all scores and an actual performance" in ended.err


def test_a_study_without_scratch_fine_tunes_sources_alone(trained, copy_of):
    workspace = copy_of(trained)
    tuning = yaml.safe_load(workspace.study.read_text())["fine_tuning"]
    workspace.change(fine_tuning={**tuning, "scratch": False})
    assert missing(workspace, "finetune-pairs") == [f"{s} -> {t}, seed 0" for t in DOMAINS for s in DOMAINS if s != t]


def test_a_source_that_was_brought_along_is_scored_like_the_one_it_is(finished, copy_of):
    workspace = copy_of(finished)
    card = workspace.run / "sources/day_street/source.json"
    brought = {"name": "web", "dataset": "street_photographs", "config": str(card)}
    workspace.change(sources=[*DOMAINS, brought])
    workspace.done("score-pairs", "--source", "web")
    scores = {(row["source"], row["target"], row["metric"]): row["score"] for row in workspace.rows("scores")}
    for target in ("dusk_street", "cells_dark"):
        assert scores["web", target, "gbc"] == scores["day_street", target, "gbc"]
    assert ("web", "day_street", "gbc") in scores  # it was trained elsewhere: every target is one for it


def test_the_resolved_study_holds_the_settings_and_manifests_of_the_results(finished):
    resolved = yaml.safe_load((finished.run / "study.yaml").read_text())
    assert resolved["study"]["metrics"] == ["gbc", "leep"]
    assert Path(resolved["study"]["model"]).is_absolute()
    assert resolved["manifests"]["cells_dark"]["classes"] == list(domains.DOMAINS["cells_dark"].classes)


def test_a_training_stopped_between_its_last_step_and_its_card_ends_the_same(trained, copy_of, monkeypatch):
    workspace = copy_of(trained)
    folder = workspace.run / "sources/cells_dark"
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "source.json").unlink()
    (folder / "weights.safetensors").unlink()

    def stop(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate_on", stop)
        assert "out of memory" in workspace.call("train-sources").reason(10)
    assert not (folder / "source.json").exists()

    workspace.done("train-sources")
    assert (folder / "weights.safetensors").read_bytes() == content
    old = read_source_card(trained.run / "sources/cells_dark/source.json")
    assert read_source_card(folder / "source.json").miou == old.miou
