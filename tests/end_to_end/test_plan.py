"""Every part of every content key, changed once, makes stale what rests on it, and the plan names it."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from key_changes import (
    CASES,
    CHANGES,
    FINE_TUNING,
    IDENTITY,
    NAMES,
    UNSEEN,
    WEB,
    image_weights,
    pixel,
    reported,
    schedule,
    setting,
    study,
    study_config,
)

from seg_transfer.stages.changes import EARLIER_VERSION
from seg_transfer.store.atomic import temporary_path
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.source_card import FILE_NAME
from seg_transfer.store.tables import PERFORMANCE, SAMPLES, SCORES, read_metadata, write_rows
from seg_transfer.training import fit


@pytest.fixture(scope="module")
def rich(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The finished study with a source from a config of its own and a metric of source images, trained in bfloat16."""
    folder = tmp_path_factory.mktemp("rich")
    for path in (finished.world, finished.run):
        shutil.copytree(path, folder / path.name)
    shutil.copy2(finished.study, folder)
    workspace = replace(finished, world=folder / "world", study=folder / "study.yaml", run=folder / "run")
    card = json.loads((workspace.run / "sources/day_street" / FILE_NAME).read_text())
    (folder / "web.json").write_text(json.dumps({"model": card["model"]}))
    shutil.copy2(workspace.run / "sources/day_street/weights.safetensors", folder / "web.safetensors")
    web = {"name": "web", "dataset": "day_street", "config": "web.json", "checkpoint": "web.safetensors"}
    workspace.change(sources=["day_street", web], targets=["dusk_street"], metrics=["gbc", "leep", "ids"])
    for trained in ("sources/day_street", "performance"):
        shutil.rmtree(workspace.run / trained)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "multiplies_bfloat16", lambda: True)
        for stage in ("train-sources", "score-pairs", "finetune-pairs"):
            workspace.done(stage)
    return workspace


@pytest.fixture
def copy(rich: Any, tmp_path: Path) -> Any:
    for name in ("world", "run"):
        shutil.copytree(rich.study.parent / name, tmp_path / name)
    for name in ("study.yaml", "web.json", "web.safetensors"):
        shutil.copy2(rich.study.parent / name, tmp_path)
    return replace(rich, world=tmp_path / "world", study=tmp_path / "study.yaml", run=tmp_path / "run")


def asked(workspace: Any, invoke: Any, *options: str) -> Any:
    return invoke("plan", *workspace.place(), "--trust-config", *options)


def planned(workspace: Any, invoke: Any) -> dict[tuple[str, str], dict[str, Any]]:
    ended = asked(workspace, invoke, "--json")
    assert (ended.code, ended.err) == (0, "")
    return {(item["kind"], item["name"]): item for item in json.loads(ended.out)["items"]}


def stored_parts(workspace: Any, kind: str) -> dict[str, dict[str, str]]:
    if kind == "train":
        return {"": json.loads((workspace.run / "sources/day_street" / FILE_NAME).read_text())["key_parts"]}
    file, schema = {
        "sample": ("samples/dusk_street.parquet", SAMPLES),
        "score": ("scores/web/dusk_street.parquet", SCORES),
        "finetune": ("performance/web/dusk_street.parquet", PERFORMANCE),
    }[kind]
    return parts_in(read_metadata(workspace.run / file, schema, [KEY_PARTS])[KEY_PARTS])


@pytest.mark.parametrize("kind", CHANGES)
def test_every_part_of_a_stored_key_is_changed_below(rich, kind):
    """A part that is added to a key and has no change in this module fails here."""
    found = {part for of_row in stored_parts(rich, kind).values() for part in of_row}
    identity = IDENTITY | ({"seed"} if kind == "finetune" else set())
    assert found - identity == CHANGES[kind].keys()


@pytest.mark.parametrize(("kind", "part"), CASES, ids=[f"{kind} {part}" for kind, part in CASES])
def test_a_changed_part_makes_its_item_stale_and_is_named(copy, invoke, monkeypatch, kind, part):
    CHANGES[kind][part](copy, monkeypatch)
    item = planned(copy, invoke)[kind, NAMES[kind]]
    assert item["state"] == "stale"
    assert any(reason.startswith(reported(kind, part)) for reason in item["reasons"]), item["reasons"]


def test_another_low_shot_subset_makes_no_source_stale(copy, invoke, monkeypatch):
    kind, part = UNSEEN
    CHANGES[kind][part](copy, monkeypatch)
    assert planned(copy, invoke)[kind, NAMES[kind]]["state"] == "done"


def test_reasons_show_the_old_and_the_new_value(copy, invoke, monkeypatch):
    schedule("fine_tuning", "steps", 800)(copy, monkeypatch)
    items = planned(copy, invoke)
    assert items["finetune", FINE_TUNING]["reasons"] == ["schedule.steps: 4 -> 800"]
    assert {item["state"] for (kind, _), item in items.items() if kind != "finetune"} == {"done"}


def test_reasons_of_the_control_name_its_network_and_its_weights(copy, invoke, monkeypatch):
    control = ("finetune", "scratch -> dusk_street, seed 0")
    image_weights(copy, monkeypatch)
    assert planned(copy, invoke)[control]["reasons"] == ["initialization"]
    study_config("backbone")(copy, monkeypatch)
    assert planned(copy, invoke)[control]["reasons"][0] == "model.backbone"


@pytest.mark.usefixtures("later")
def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_seen(copy, invoke):
    file = next((copy.world / "dusk_street/train").rglob("*.png"))
    planned(copy, invoke)  # keeps the hashes
    status, content = file.stat(), file.read_bytes()
    other = file.with_name("other")
    other.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert planned(copy, invoke)["sample", "sample of dusk_street"]["reasons"] == ["records of dusk_street train"]


def test_another_seed_or_metric_is_missing_and_not_stale(copy, invoke, monkeypatch):
    study(fine_tuning={"seeds": [0, 1]})(copy, monkeypatch)
    copy.change(metrics=["gbc", "leep", "ids", "h_score"])
    items = planned(copy, invoke)
    assert items["finetune", "web -> dusk_street, seed 1"]["state"] == "missing"
    assert items["finetune", FINE_TUNING]["state"] == "done"
    assert (items["score", WEB]["state"], items["score", WEB]["reasons"]) == ("missing", ["no score of h_score"])


def test_the_plan_and_the_stages_agree(copy, invoke, monkeypatch):
    pixel("dusk_street", "train")(copy, monkeypatch)
    items = planned(copy, invoke).values()
    for kind, stage in (("train", "train-sources"), ("score", "score-pairs"), ("finetune", "finetune-pairs")):
        of_stage = json.loads(copy.done(stage, "--dry-run", "--json"))["missing"]
        open_items = [item["name"] for item in items if item["kind"] == kind and item["state"] != "done"]
        assert [one["item"].split(": ")[0] for one in of_stage] == open_items
        copy.done(stage)
    assert {item["state"] for item in planned(copy, invoke).values()} == {"done"}


def test_seeds_keep_what_their_keys_were_made_of(copy, invoke, monkeypatch):
    study(fine_tuning={"seeds": [0, 1]})(copy, monkeypatch)
    copy.done("finetune-pairs", "--source", "web")
    assert stored_parts(copy, "finetune").keys() == {"0", "1"}
    pixel("dusk_street", "eval")(copy, monkeypatch)
    items = planned(copy, invoke)
    for seed in (0, 1):
        assert items["finetune", f"web -> dusk_street, seed {seed}"]["reasons"] == ["records of dusk_street eval"]


def test_one_more_metric_keeps_what_the_keys_of_the_others_were_made_of(copy):
    before = stored_parts(copy, "score")
    copy.change(metrics=["gbc", "leep", "ids", "h_score"])
    copy.done("score-pairs")
    after = stored_parts(copy, "score")
    assert after.keys() == {"gbc", "leep", "ids", "h_score"}
    assert {name: after[name] for name in before} == before


def test_without_parts_a_result_is_done_or_of_an_earlier_version(copy, invoke, monkeypatch):
    for kind, schema in (("scores", SCORES), ("performance", PERFORMANCE)):
        for file in (copy.run / kind).glob("*/dusk_street.parquet"):
            rewrite(file, schema, lambda rows: rows, {KEY_PARTS: ""})
    assert {item["state"] for item in planned(copy, invoke).values()} == {"done"}
    setting(normalisation="target")(copy, monkeypatch)
    items = planned(copy, invoke)
    for key in (("score", WEB), ("finetune", FINE_TUNING)):
        assert (items[key]["state"], items[key]["reasons"]) == ("stale", [EARLIER_VERSION])


def test_a_plan_writes_nothing_but_hashes(copy, invoke):
    temporary_path(copy.run / "scores/web").write_bytes(b"")
    before, resolved = copy.state(), (copy.run / "study.yaml").stat().st_mtime_ns
    planned(copy, invoke)
    assert copy.state() == before
    assert (copy.run / "study.yaml").stat().st_mtime_ns == resolved


def test_of_a_study_that_was_never_run_everything_is_missing(copy, invoke):
    shutil.rmtree(copy.run)
    copy.change(sources=["day_street"])
    assert {item["state"] for item in planned(copy, invoke).values()} == {"missing"}
    assert not copy.run.exists()


def rewrite(
    file: Path, schema: Any, change: Callable[[list[Any]], list[Any]], about: dict[str, str] | None = None
) -> None:
    table = pq.ParquetFile(file).read()
    kept = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    write_rows(file, schema, change(table.to_pylist()), kept | (about or {}))
