"""A new kind of model is one file and one line in the table: everything else works with it as it is."""

import json
import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from palette_adapter import FILE, PaletteEntry

from seg_transfer import rank_sources
from seg_transfer.data.images import read_image
from seg_transfer.demo.world import build_world
from seg_transfer.errors import ConfigError
from seg_transfer.metrics import logme
from seg_transfer.models import adapters
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.sources import parse_entry
from seg_transfer.stages.sampling import pixel_sample
from seg_transfer.store.source_card import read_source_card
from seg_transfer.study.bank import read_sources
from seg_transfer.study.run import open_run
from seg_transfer.training.evaluate import evaluate_on

TARGET = "dusk_street"
ROWS = {"warm": [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "green": [[0.0, 2.0, 0.0], [1.0, 0.0, 1.0], [0.3, 0.3, 0.3]]}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "ADAPTERS", MappingProxyType({**adapters.ADAPTERS, "palette": PaletteEntry}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A world, a folder of two models, and a study of both on one target."""
    build_world(tmp_path / "world", n_train=3, n_source_train=2, n_eval=2, size=(48, 64))
    for name, rows in ROWS.items():
        (tmp_path / "zoo" / name).mkdir(parents=True)
        (tmp_path / "zoo" / name / FILE).write_text(json.dumps(rows))
    study = {
        "name": "colors",
        "manifests": ["world/manifests"],
        "sources": [{"name": name, "dataset": "day_street", "palette": f"zoo/{name}/{FILE}"} for name in ROWS],
        "targets": [TARGET],
        "metrics": ["logme", "leep"],
        "sampling": {"pixels_per_image": 100},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    return tmp_path


def place(folder: Path) -> list[Any]:
    return [folder / "study.yaml", "--data-root", folder / "world", "--run-folder", folder / "run"]


def test_a_study_is_planned_scored_and_reported(folder, invoke):
    assert states(invoke("plan", *place(folder), "--json").out) == {"missing"}
    ended = invoke("score-pairs", *place(folder), "--threads", "1", "--engine", "here")
    assert (ended.code, ended.err) == (0, "")
    run = open_run(folder / "study.yaml", folder / "world", folder / "run")
    records = run.low_shot(TARGET)
    sample = pixel_sample(run, TARGET, records)
    for entry in run.study.sources:
        assert entry.key() == parse_entry(entry.model_dump(mode="json")).key()
        # The images have the manifest's size: a pixel's features are its color.
        images = [read_image(record) for record in records]
        colors = [
            images[i][r, c] / 255 for i, r, c in zip(sample.image_index, sample.rows, sample.columns, strict=True)
        ]
        assert scores_of(folder, entry.name)["logme"] == pytest.approx(logme(colors, sample.labels), rel=1e-4)
    assert states(invoke("plan", *place(folder), "--json").out) == {"done"}
    reported = invoke("report", folder / "run")
    assert reported.code == 0, reported.err
    assert FILE in (folder / "run/report/report.html").read_text()


def states(plan: str) -> set[str]:
    return {item["state"] for item in json.loads(plan)["items"]}


def scores_of(folder: Path, source: str) -> dict[str, float]:
    rows = pq.read_table(folder / f"run/scores/{source}/{TARGET}.parquet", partitioning=None).to_pylist()
    return {row["metric"]: row["score"] for row in rows}


def test_a_folder_of_such_models_is_ranked(folder):
    target = folder / f"world/manifests/{TARGET}.yaml"
    ranking = rank_sources(target, [folder / "zoo"], metric="leep", data_root=folder / "world")
    assert sorted(ranking.scores) == sorted(ROWS)
    assert ranking.skipped == {}


def test_messages_name_the_new_kind(folder):
    with pytest.raises(ConfigError, match=r"none of config, .* and palette; add one"):
        read_sources({"name": "a"})
    with pytest.raises(ConfigError, match=r"a source\.json, .* or a palette\.json"):
        read_sources(folder / "world")
    with pytest.raises(ConfigError, match="source 'a' has timm and palette, which mark different kinds of model"):
        read_sources({"name": "a", "timm": "hrnet_w18", "palette": "p.json"})
    with pytest.raises(ConfigError, match="source 'a': field weights has no meaning for a palette source; remove it"):
        read_sources({"name": "a", "weights": "w.pth", "palette": "p.json"})


def test_such_a_model_is_fine_tuned_kept_and_loaded_again(folder, invoke):
    schedule = {"steps": 3, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0.0}
    (folder / "schedule.yaml").write_text(yaml.safe_dump(schedule))
    study = yaml.safe_load((folder / "study.yaml").read_text())
    tuning = {"schedule": "schedule.yaml", "scratch": False, "keep_weights": True}
    (folder / "study.yaml").write_text(yaml.safe_dump(study | {"fine_tuning": tuning}))
    ended = invoke("finetune-pairs", *place(folder), "--threads", "1", "--engine", "here")
    assert (ended.code, ended.err) == (0, "")
    for name in ROWS:
        kept = folder / f"run/fine_tuned/{name}/{TARGET}/0"
        card = read_source_card(kept / "source.json")
        assert (card.model["kind"], card.model["architecture"]["n_colors"]) == ("palette", len(ROWS[name]))
        again = load_source_model(kept / "source.json")
        assert again.n_classes == len(card.classes)
        run = open_run(folder / "study.yaml", folder / "world", folder / "run")
        quality = evaluate_on(again, run.records(TARGET, "eval"), run.manifests[TARGET])
        assert quality.miou == card.miou


def test_a_kind_that_does_not_say_how_networks_are_built_is_only_scored(monkeypatch):
    monkeypatch.delattr(PaletteEntry, "architecture")
    with pytest.raises(ConfigError, match="source a: is a palette model and can only be scored"):
        parse_entry({"name": "a", "dataset": "b", "palette": "p.json"}).architecture()


def test_a_study_with_it_can_be_sent_to_another_process(folder):
    run = open_run(folder / "study.yaml", folder / "world", folder / "run")
    assert pickle.loads(pickle.dumps(run.study)) == run.study
    assert all(isinstance(entry, PaletteEntry) for entry in run.study.sources)
    assert [entry["palette"] for entry in run.resolved["study"]["sources"]] == [
        str(folder / f"zoo/{name}/{FILE}") for name in ROWS
    ]
