"""The page of content keys lists every key and all its parts: no more and no fewer than the code has."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import seg_transfer.store
from seg_transfer.demo.world import build_world
from seg_transfer.models.sources import parse_entry
from seg_transfer.resources import shipped
from seg_transfer.selection import ablations
from seg_transfer.stages import explanation_keys, finetune, race_keys, sample_keys, score_keys, train
from seg_transfer.stages.base import Item
from seg_transfer.store import content_key
from seg_transfer.store.content_key import Key, manifest_key, settings_key
from seg_transfer.study import networks
from seg_transfer.study.definition import HoldOut
from seg_transfer.study.networks import weights_key
from seg_transfer.study.run import Run, open_run

PAGE = (Path(seg_transfer.store.__file__).parent / "README.md").read_text()
THIRD = (1 / 3, 1 / 3, 1 / 3)
NORMALIZED = {"data_preprocessor": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
NETWORK = {**NORMALIZED, "backbone": {}, "decode_head": {"num_classes": 3}}
# Thousands of files, and a list of images: digests whose parts are said in words.
WITHOUT_PARTS = {"records", "stored sample"}


def rows() -> dict[str, tuple[set[str], set[str]]]:
    """Name of a key -> the functions that make it and its parts, as the table says."""
    cells = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert all(len(row) == 5 for row in cells)
    coded = [(row[0].partition(", `")[0], *(set(re.findall(r"`(\w+)`", cell)) for cell in row[:2])) for row in cells]
    return {name: (functions, parts) for name, functions, parts in coded}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A study with a source that it trains, and one that is brought along."""
    folder = tmp_path_factory.mktemp("keys_page")
    build_world(folder / "world", n_train=2, n_source_train=2, n_eval=2, size=(48, 64))
    (folder / "w.pth").write_bytes(b"weights")
    (folder / "net.py").write_text("def build(): ...\n")
    (folder / "net.json").write_text(
        json.dumps({"model": {**NORMALIZED, "backbone": {}, "decode_head": {"num_classes": 3}}})
    )
    hub = folder / "hub"
    hub.mkdir()
    (hub / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    (hub / "model.safetensors").write_bytes(b"weights")
    schedules = shipped("configs/schedules")
    study = {
        "name": "small",
        "manifests": ["world/manifests"],
        "sources": [
            "day_street",
            {"name": "web", "dataset": "day_street", "config": "net.json", "checkpoint": "w.pth"},
        ],
        "targets": ["dusk_street"],
        "model": "net.json",
        "source_training": {"schedule": str(schedules / "source_training.yaml")},
        "fine_tuning": {"schedule": str(schedules / "fine_tuning.yaml")},
        "metrics": ["gbc", "ids"],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return open_run(folder / "study.yaml", folder / "world", folder / "run")


def key_of(**fields: Any) -> Key:
    """Key of the weights of a source that is brought along."""
    return parse_entry({"name": "web", "dataset": "day_street", **fields}).key()


def with_own_rate(run: Run) -> dict[str, Any]:
    """The resolved study, in which all sources have their own learning rate."""
    study = run.resolved["study"]
    return {**run.resolved, "study": {**study, "sources": [{**one, "learning_rate": 0.1} for one in study["sources"]]}}


def of_race(run: Run) -> dict[str, list[Key]]:
    """The same of the keys of a race, in a study with images held out."""
    held_out = replace(run, study=run.study.model_copy(update={"hold_out": HoldOut()}))
    racer, winner = Item("web", "dusk_street", 0, 1), Item("web", "dusk_street", 0)
    return {
        "racer": [key for _, key in race_keys.race_keys(held_out, racer).values()],
        "end of a race": [key for _, key in race_keys.finish_keys(held_out, winner).values()],
    }


def made(run: Run) -> dict[str, list[Key]]:
    """Name of a key -> examples of it that show all its parts."""
    folder, web = run.folder.parent, run.study.source("web")
    weights, drawn = weights_key(run, web), sample_keys.low_shot_sample_key(run, "dusk_street")
    observations = score_keys.observations_key(run, web, weights, drawn)
    explained = explanation_keys.explanation_keys(observations, "pca", 10)
    files, w = run.low_shot("dusk_street"), folder / "w.pth"
    staged, factory = web.model_copy(update={"features": "stages"}), {"factory": "net:build", "factory_folder": folder}
    return {
        "manifest": [manifest_key(run.manifests["dusk_street"])],
        "records": [run.records_key("dusk_street", files)],
        "sample": [drawn, sample_keys.sample_key(run, "dusk_street", files)],
        "stored sample": [sample_keys.stored_sample_key(run.records_key("dusk_street", files), "[]")],
        "labeled pixels of every class": [sample_keys.class_pixels_key(drawn, "[4, 9]")],
        "weights of an mmsegmentation source, trained by the study or brought along": [
            weights,
            key_of(
                config=folder / "net.json", checkpoint=w, scores_only=True, mean=THIRD, std=THIRD, weights_key="ema"
            ),
        ],
        "weights of a transformers source": [key_of(transformers=folder / "hub", mean=THIRD, std=THIRD)],
        "weights of a timm source": [
            key_of(timm="hrnet_w18", weights=w),
            key_of(timm="resnet18", weights=w, weights_key="ema"),
        ],
        "weights of a torchvision source": [key_of(torchvision="resnet18", weights=w, weights_key="ema")],
        "weights of an smp source": [
            key_of(smp={"arch": "Unet", "encoder_weights": "imagenet"}, weights=w, weights_key="ema")
        ],
        "weights of a factory source": [
            key_of(**factory, weights=w, mean=THIRD, std=THIRD, input_size=[64, 64], weights_key="ema")
        ],
        "observations": [observations, score_keys.observations_key(run, staged, weights, drawn)],
        "score": [score_keys.score_key(observations, "gbc", None), score_keys.score_key(observations, "ids", drawn)],
        "training": [key for _, key in train.training_keys(run, run.study.source("day_street")).values()],
        "fine-tuning": [key for _, key in finetune.fine_tuning_keys(run, Item("web", "dusk_street", 0)).values()],
        **of_race(run),
        "start of a fine-tuning": [
            *(finetune.start_key(run, Item(name, "dusk_street", 0)) for name in ("web", "scratch")),
            networks.source_start_key(run, staged),
        ],
        "settings of scores or of performance": [
            settings_key(kind, with_own_rate(run), "dusk_street", "web") for kind in ("scores", "performance")
        ],
        "explanation: overlaps": [explained["overlaps"]],
        "explanation: classes": [explained["classes"]],
        "explanation: map": [explained["map"]],
        "explanation: map after fine-tuning": [explanation_keys.fine_tuned_map_key(explained["map"], weights)],
        "GBC under other settings": [ablations.gbc_settings_key(observations, [1, 2])],
    }


@pytest.fixture(autouse=True)
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source has raced."""
    monkeypatch.setattr(race_keys, "last_rows", lambda run, item: [{"content_key": "key of a racer", "steps": 4}])


def test_the_page_lists_the_parts_of_every_key(run):
    found = made(run)
    assert list(found) == list(rows())
    for name, examples in found.items():
        parts = {part.partition(".")[0] for key in examples for part in key.parts}
        assert parts - {"schema_version"} == rows()[name][1], name
        assert ("schema_version" in parts) == (name not in {"manifest", *WITHOUT_PARTS}), name
        assert (not parts) == (name in WITHOUT_PARTS), name


def test_the_page_names_every_function_that_makes_a_key():
    named = set().union(*(functions for functions, _ in rows().values()))
    there = {
        name
        for module in (
            networks,
            sample_keys,
            score_keys,
            train,
            finetune,
            race_keys,
            explanation_keys,
            ablations,
            content_key,
        )
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and "Key" in function.__annotations__["return"]
    }
    assert named == {name for name in there if not name.startswith("_")} - {"content_key"}


def test_what_a_key_returns_is_one_that_knows_its_parts(run):
    assert {type(key) for examples in made(run).values() for key in examples} == {Key}
