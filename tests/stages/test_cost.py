from pathlib import Path

import pytest
import yaml
from source_cards import source_card

from seg_transfer.demo.domains import DOMAINS
from seg_transfer.demo.world import build_world
from seg_transfer.models.entry import SourceEntry
from seg_transfer.resources import shipped
from seg_transfer.stages import STAGES, probe, score
from seg_transfer.stages.base import Item, Stage
from seg_transfer.stages.cost import Missing, missing_costs
from seg_transfer.stages.probe import Probe
from seg_transfer.store.source_card import write_source_card
from seg_transfer.store.tables import PERFORMANCE, SCORES, write_rows
from seg_transfer.study.run import Run, open_run

N_TRAIN, N_EVAL, STEPS, BATCH = 3, 2, 7, 2
PROVENANCE = {"content_key": "of other settings", "schema_version": 1, "seg_transfer_version": "0", "created_utc": ""}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    build_world(tmp_path / "world", n_train=N_TRAIN, n_source_train=1, n_eval=N_EVAL, size=(48, 64))
    schedule = {"steps": STEPS, "batch_size": BATCH, "learning_rate": 0.1}
    (tmp_path / "schedule.yaml").write_text(yaml.safe_dump(schedule))
    study = {
        "name": "tiny",
        "manifests": ["world/manifests"],
        "sources": ["day_street", "cells_dark"],
        "targets": ["day_street", "cells_dark"],
        "model": str(shipped("configs/models/hrnetv2_tiny.py")),
        "source_training": {"schedule": "schedule.yaml"},
        "fine_tuning": {"schedule": "schedule.yaml", "scratch": False},
        "metrics": ["gbc", "leep"],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return open_run(tmp_path / "study.yaml", tmp_path / "world", tmp_path / "run")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Forward passes "take" these seconds, one after another, whatever they take."""
    seconds = [9.0, 0.5, 4.0]
    given = iter(seconds)
    monkeypatch.setattr(probe, "_seconds", lambda work: (work(), next(given))[1])
    return seconds


def costs(run: Run, stage: str, *sources: str) -> list[Missing]:
    return missing_costs(STAGES[stage], run, STAGES[stage].items(run, sources), "cpu")


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources count as trained and one pair is missing: what sources are decides no cost."""
    parts = {"score": {Item("day_street", "cells_dark"): ("gbc", "leep")}}
    parts["finetune"] = {Item("day_street", "cells_dark", seed): () for seed in (0, 1)}
    monkeypatch.setattr(Stage, "missing", lambda stage, *_: parts[stage.name])


def write_card(run: Run, name: str, seconds: float) -> None:
    fields = {"classes": DOMAINS[name].classes, "seconds": seconds, "content_key": "of other settings"}
    write_source_card(source_card(name, **fields), run.source_folder(name))


# By a forward pass


def test_a_training_costs_three_forward_passes_per_image_and_one_per_eval_image(run, timed):
    missing = costs(run, "train")
    expected = 0.5 * (3 * STEPS * BATCH + N_EVAL)  # the quickest of three tries
    assert [(one.item, one.seconds, one.basis) for one in missing] == [
        ("source day_street", expected, "a timed forward pass"),
        ("source cells_dark", expected, "a timed forward pass"),
    ]


def test_a_fine_tuning_costs_like_any_training_and_a_network_is_timed_once(run, timed, keyless):
    missing = costs(run, "finetune")
    assert [one.item for one in missing] == ["day_street -> cells_dark, seed 0", "day_street -> cells_dark, seed 1"]
    assert {one.seconds for one in missing} == {0.5 * (3 * STEPS * BATCH + N_EVAL)}


def test_scoring_costs_one_forward_pass_per_image(run, timed, keyless):
    (missing,) = costs(run, "score")
    assert (missing.item, missing.seconds) == ("day_street -> cells_dark: gbc, leep", 0.5 * N_TRAIN)


def test_the_own_images_of_a_source_cost_one_more_forward_pass_with_its_first_pair(run, timed, monkeypatch):
    missing = {
        Item("day_street", "cells_dark"): ("gbc", "own"),
        Item("day_street", "elsewhere"): ("own",),
        Item("cells_dark", "day_street"): ("gbc",),
    }
    monkeypatch.setattr(Stage, "missing", lambda *_: missing)
    monkeypatch.setattr(score, "needs_source_images", lambda name: name == "own")
    run.manifests["elsewhere"] = run.manifests["cells_dark"]
    assert [one.seconds for one in costs(run, "score")] == [0.5 * 2 * N_TRAIN, 0.5 * N_TRAIN, 0.5 * N_TRAIN]


def test_a_real_forward_pass_takes_some_time(run):
    (missing,) = costs(run, "train", "cells_dark")
    assert missing.item == "source cells_dark"
    assert 0 < missing.seconds < 3600


# By what is finished


def no_probe(*_: object) -> float:
    raise AssertionError("timed a forward pass although items are finished")


def test_finished_sources_give_the_cost_of_the_missing_ones(run, monkeypatch):
    monkeypatch.setattr(Probe, "forward", no_probe)
    write_card(run, "day_street", 30.0)
    write_card(run, "cells_dark", 50.0)
    missing = costs(run, "train", "cells_dark")  # both were trained with other settings
    assert [(one.item, one.seconds, one.basis) for one in missing] == [("source cells_dark", 40.0, "finished items")]


def test_finished_fine_tunings_give_the_cost_of_the_missing_ones(run, monkeypatch, keyless):
    monkeypatch.setattr(Probe, "forward", no_probe)
    row = {"source": "x", "target": "y", "miou": 0.5, **PROVENANCE}
    for source, seconds in (("x", [10.0, 20.0]), ("z", [60.0])):
        rows = [{**row, "seed": seed, "seconds": one} for seed, one in enumerate(seconds)]
        write_rows(run.performance_file(source, "y"), PERFORMANCE, rows)
    assert [(one.seconds, one.basis) for one in costs(run, "finetune")] == [(30.0, "finished items")] * 2


def test_finished_pairs_give_the_cost_of_the_missing_ones_and_a_late_metric_does_not_make_them_cheap(
    run, monkeypatch, keyless
):
    monkeypatch.setattr(Probe, "forward", no_probe)
    row = {"source": "x", "target": "y", **PROVENANCE}
    write_rows(
        run.scores_file("x", "y"),
        SCORES,
        [{**row, "metric": "gbc", "seconds": 8.0}, {**row, "metric": "leep", "seconds": 2.0}],
    )
    write_rows(run.scores_file("z", "y"), SCORES, [{**row, "metric": "gbc", "seconds": 12.0}])
    (missing,) = costs(run, "score")
    assert (missing.seconds, missing.basis) == (10.0, "finished items")


def test_a_pair_that_can_have_no_score_is_not_missing(run, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"never read")
    source = {"name": "scores", "dataset": "elsewhere", "factory": "nets:net", "weights": str(weights)}
    normalization = {"mean": [0.5] * 3, "std": [0.25] * 3}
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    changes = {"sources": [source | normalization | {"scores_only": True}], "fine_tuning": None}
    (tmp_path / "nets.py").touch()
    for metrics, missing in ((["gbc"], []), (["gbc", "leep"], [("leep",)] * 2)):
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study | changes | {"metrics": metrics}))
        changed = open_run(tmp_path / "study.yaml", tmp_path / "world", tmp_path / "run")
        stage = STAGES["score"]
        assert list(stage.missing(changed, stage.items(changed)).values()) == missing


def test_nothing_missing_costs_nothing(run, monkeypatch):
    monkeypatch.setattr(Stage, "missing", lambda *_: {})
    assert costs(run, "train") == []


def test_the_entry_of_the_study_is_what_the_fixtures_expect(run):
    assert run.study.sources[0] == SourceEntry(name="day_street", dataset="day_street")
