"""A study whose own model is of another kind than mmsegmentation: trained, scored, fine-tuned, planned and checked."""

import json
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
import yaml
from palette_adapter import FILE, MEAN, PaletteEntry
from safetensors.torch import load_file
from tiny_source import TINY

from seg_transfer.demo.world import build_world
from seg_transfer.models import adapters
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.networks import build_network
from seg_transfer.store.source_card import read_source_card
from seg_transfer.study.networks import libraries_of
from seg_transfer.study.run import open_run

ROWS = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.3, 0.3, 0.3]]
STUDY = {
    "name": "own",
    "manifests": ["world/manifests"],
    "sources": ["day_street", {"name": "greens", "dataset": "elsewhere", "palette": FILE, "learning_rate": 0.02}],
    "targets": ["dusk_street"],
    "model": {"palette": FILE},
    "source_training": {"schedule": "schedule.yaml", "seed": 1},
    "fine_tuning": {"schedule": "schedule.yaml", "changes": {"optimizer": "adamw", "freeze": "backbone"}},
    "metrics": ["logme", "leep"],
    "sampling": {"pixels_per_image": 50},
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "ADAPTERS", MappingProxyType({**adapters.ADAPTERS, "palette": PaletteEntry}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_world(tmp_path / "world", n_train=3, n_source_train=3, n_eval=2, size=(48, 64))
    (tmp_path / FILE).write_text(json.dumps(ROWS))
    schedule = {"steps": 2, "batch_size": 2, "learning_rate": 0.01, "checkpoint_every": 1}
    (tmp_path / "schedule.yaml").write_text(yaml.safe_dump(schedule))
    write(tmp_path)
    return tmp_path


def write(folder: Path, **changes: Any) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes))


def place(folder: Path) -> list[Any]:
    return [folder / "study.yaml", "--data-root", folder / "world", "--run-folder", folder / "run"]


def states(folder: Path, invoke: Any) -> dict[str, str]:
    items = json.loads(invoke("plan", *place(folder), "--json").out)["items"]
    return {f"{item['kind']} {item['name']}": item["state"] for item in items}


def run_all(folder: Path, invoke: Any) -> None:
    for stage in ("train-sources", "score-pairs", "finetune-pairs"):
        ended = invoke(stage, *place(folder), "--threads", "1", "--engine", "here")
        assert (ended.code, ended.err) == (0, "")


def test_a_study_with_such_a_model_is_complete(folder, invoke):
    run = open_run(folder / "study.yaml", folder / "world", folder / "run")
    assert run.study.model_dump(mode="json")["model"] == {"palette": str(folder / FILE)}
    missing = json.loads(invoke("train-sources", *place(folder), "--dry-run", "--json").out)["missing"]
    assert [(one["item"], one["basis"]) for one in missing] == [("source day_street", "a timed forward pass")]
    run_all(folder, invoke)
    assert set(states(folder, invoke).values()) == {"done"}
    ended = invoke("plan", *place(folder), "--check")
    assert (ended.code, ended.err) == (0, "")

    card = read_source_card(folder / "run/sources/day_street/source.json")
    manifest = run.manifests["day_street"]
    assert card.initialisation == run.study.model.key()
    assert (card.model["kind"], card.model["n_classes"]) == ("palette", len(manifest.classes))
    assert (card.model["mean"], card.config) == (list(MEAN), FILE)
    weights = load_file(folder / "run/sources/day_street/weights.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == {
        "0.weight": (len(manifest.classes), 3, 1, 1)
    }


def test_its_card_is_a_source_of_another_study(folder, invoke):
    ended = invoke("train-sources", *place(folder), "--threads", "1", "--engine", "here")
    assert (ended.code, ended.err) == (0, "")
    card = folder / "run/sources/day_street/source.json"
    tuning = {"schedule": "schedule.yaml", "scratch": False}
    write(folder, sources=[{"name": "given", "dataset": "day_street", "config": str(card)}], fine_tuning=tuning)
    for stage in ("score-pairs", "finetune-pairs"):
        assert len(json.loads(invoke(stage, *place(folder), "--dry-run", "--json").out)["missing"]) == 1
        ended = invoke(stage, *place(folder), "--threads", "1", "--engine", "here")
        assert (ended.code, ended.err) == (0, "")
    run = open_run(folder / "study.yaml", folder / "world", folder / "run")
    entry = run.study.source("given")
    assert (entry.kind, entry.network_kind) == ("mmseg", "palette")
    assert libraries_of(run, entry) == PaletteEntry.libraries != entry.libraries
    described = json.loads(invoke("inspect-model", card, "--json").out)
    assert described[0]["kind"] == "palette"


def test_what_it_starts_from_is_part_of_the_keys(folder, invoke):
    run_all(folder, invoke)
    write(folder, sources=[STUDY["sources"][0], {**STUDY["sources"][1], "learning_rate": 0.03}])
    stale = {name for name, state in states(folder, invoke).items() if state != "done"}
    assert stale == {"finetune greens -> dusk_street, seed 0"}
    write(folder)
    (folder / FILE).write_text(json.dumps([[0.5, 0.0, 0.0], *ROWS[1:]]))
    found = states(folder, invoke)
    assert found["train source day_street"] == "stale"
    assert found["finetune scratch -> dusk_street, seed 0"] == "stale"
    assert found["sample sample of dusk_street"] == "done"


def test_a_source_is_fine_tuned_at_its_own_rate(folder, invoke):
    changes = {"optimizer": "sgd", "weight_decay": 0.0, "momentum": 0.0, "steps": 1, "mixed_precision": False}
    tuning = {"schedule": "schedule.yaml", "changes": changes, "keep_weights": True, "scratch": False}
    weights = []
    for rate in (0.02, 0.04):
        write(folder, sources=[{**STUDY["sources"][1], "learning_rate": rate}], fine_tuning=tuning)
        ended = invoke("finetune-pairs", *place(folder), "--threads", "1", "--engine", "here")
        assert (ended.code, ended.err) == (0, "")
        kept = folder / "run/fine_tuned/greens/dusk_street/0"
        assert read_source_card(kept / "source.json").schedule["learning_rate"] == rate
        weights.append(load_file(kept / "weights.safetensors")["0.weight"])
    start = torch.randn(weights[0].shape, generator=torch.Generator().manual_seed(0)) * 0.01  # of the new head
    torch.testing.assert_close(weights[1] - start, 2 * (weights[0] - start), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "reported"),
    [
        ({"model": {"palette": FILE, "name": "x"}}, "model: field name has no meaning for the study's own model"),
        ({"model": {"weights": "w.pth"}}, "source 'model': field weights has no meaning without one of config"),
        ({"model": {"scores_only": True}}, "model: "),
        (
            {"source_training": {"schedule": "schedule.yaml", "init_checkpoint": "w.pth"}},
            "source_training.init_checkpoint has no meaning for a palette model, whose entry names its weights",
        ),
    ],
)
def test_a_wrong_model_ends_in_one_line(folder, invoke, fields, reported):
    write(folder, **fields)
    assert reported in invoke("plan", *place(folder)).reason(3)


def test_images_are_normalized_by_the_target_where_the_study_says_so(folder, invoke):
    write(folder, normalisation="target")
    run_all(folder, invoke)
    run = open_run(folder / "study.yaml", folder / "world", folder / "run")
    card = read_source_card(folder / "run/sources/day_street/source.json")
    assert card.model["mean"] == list(run.manifests["day_street"].mean) != list(MEAN)


def test_a_trained_network_is_the_model_of_another_study(folder, invoke):
    ended = invoke("train-sources", *place(folder), "--threads", "1", "--engine", "here")
    assert (ended.code, ended.err) == (0, "")
    shutil.move(folder / "run", folder / "first")
    write(folder, model={"config": "first/sources/day_street/source.json"})
    run_all(folder, invoke)
    assert set(states(folder, invoke).values()) == {"done"}
    card = read_source_card(folder / "run/sources/day_street/source.json")
    assert card.model["kind"] == "palette"


def test_a_checkpoint_of_mmsegmentation_is_the_model(folder, invoke):
    """It is trained by its own losses, and its card is that of a network of mmsegmentation."""
    model = with_normalization(with_classes(read_model_config(TINY), 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    (folder / "net.json").write_text(json.dumps({"model": model}))
    network = build_network(model, seed=3)
    torch.save({"state_dict": network.state_dict(), "meta": {"iter": 3}}, folder / "net.pth")
    write(folder, model={"config": "net.json", "checkpoint": "net.pth"})
    run_all(folder, invoke)
    assert set(states(folder, invoke).values()) == {"done"}
    run = open_run(folder / "study.yaml", folder / "world", folder / "run")
    card = read_source_card(folder / "run/sources/day_street/source.json")
    assert card.model["decode_head"]["num_classes"] == len(run.manifests["day_street"].classes)
    assert card.model["data_preprocessor"] == model["data_preprocessor"]
    (folder / "net.pth").write_bytes(b"others")
    assert states(folder, invoke)["train source day_street"] == "stale"
