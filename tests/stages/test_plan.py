"""A plan of 272 pairs needs no torch and reads each file once; its summary and its groups agree with values by hand."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from seg_transfer.demo.world import build_world
from seg_transfer.reports.plan import StudyPlan, render_plan, summary
from seg_transfer.resources import shipped
from seg_transfer.stages.base import Item, State, Status
from seg_transfer.stages.finetune import fine_tuning_keys
from seg_transfer.stages.plan import PlanItem, plan_items
from seg_transfer.stages.sample_keys import low_shot_sample_key
from seg_transfer.stages.score_keys import SOURCE_OBSERVATIONS, observations_key, score_key
from seg_transfer.store.content_key import content_key
from seg_transfer.store.key_parts import parts_entry
from seg_transfer.store.source_card import SourceCard, write_source_card
from seg_transfer.store.tables import PERFORMANCE, SCORES, provenance, write_rows
from seg_transfer.study.networks import weights_key
from seg_transfer.study.run import CachedRun, open_run, snapshot

N = 17


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A study of 17 datasets with all its scores and performances; the sources are brought along."""
    folder = tmp_path_factory.mktemp("big")
    build_world(folder / "world", n_train=2, n_source_train=2, n_eval=2, size=(48, 64))
    template = yaml.safe_load((folder / "world/manifests/day_street.yaml").read_text())
    (folder / "manifests").mkdir()
    sources = []
    for number in range(N):
        name = f"d{number:02d}"
        (folder / "manifests" / f"{name}.yaml").write_text(yaml.safe_dump({**template, "name": name}))
        put_card(folder / "bank" / name, name)
        sources.append({"name": name, "dataset": name, "config": str(folder / "bank" / name / "source.json")})
    study = {
        "name": "big",
        "manifests": ["manifests"],
        "sources": sources,
        "targets": [source["name"] for source in sources],
        "fine_tuning": {"schedule": str(shipped("configs/schedules/fine_tuning.yaml")), "scratch": False},
        "metrics": ["gbc", "leep"],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    finish(snapshot(open_run(folder / "study.yaml", folder / "world", folder / "run")))
    return folder / "study.yaml", folder / "world", folder / "run"


def put_card(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(name.encode())
    fields = dict.fromkeys(("source", "dataset"), name) | dict.fromkeys(("config", "initialisation"), "")
    numbers = dict.fromkeys(("seed", "steps", "n_train_images", "miou", "n_eval_images", "seconds"), 0)
    lists: dict[str, tuple[str, ...]] = dict.fromkeys(("classes", "class_iou", "absent_classes"), ())
    origin = dict.fromkeys(("content_key", "seg_transfer_version", "created_utc"), "")
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    preprocessor = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    model = {"backbone": {"depth": 50}, "decode_head": {"num_classes": 2}, "data_preprocessor": preprocessor}
    card = {**fields, **numbers, **lists, **origin, "sha256": sha256, "model": model, "schedule": {}}
    write_source_card(SourceCard.model_validate({**card, "weights": "weights.safetensors"}), folder)


def finish(run: CachedRun) -> None:
    for entry, target in run.pairs:
        head = {"source": entry.name, "target": target}
        observations = observations_key(run, entry, weights_key(run, entry), low_shot_sample_key(run, target))
        keys = {name: score_key(observations, name, None) for name in run.study.metrics}
        rows = [{**head, "metric": name, "score": -1.0, **provenance(3.0, key)} for name, key in keys.items()]
        parts = parts_entry({name: key.parts for name, key in keys.items()})
        write_rows(run.scores_file(entry.name, target), SCORES, rows, parts)
        key = fine_tuning_keys(run, Item(entry.name, target, 0))["float32"][1]
        row = {**head, "miou": 0.5, "class_iou": [0.5], "seed": 0, **provenance(1800.0, key)}
        write_rows(run.performance_file(entry.name, target), PERFORMANCE, [row], parts_entry({"0": key.parts}))


def command(big: tuple[Path, Path, Path], *options: str) -> list[str]:
    study, world, run = big
    words = ["plan", str(study), "--data-root", str(world), "--run-folder", str(run), *options]
    return [sys.executable, "-X", "importtime", "-m", "seg_transfer", *words]


def test_a_plan_of_272_pairs_imports_no_torch(big):
    ended = subprocess.run(command(big, "--json"), capture_output=True, text=True, check=True)
    modules = {line.rsplit("|", 1)[-1].strip() for line in ended.stderr.splitlines()}
    assert "seg_transfer.stages.plan" in modules
    assert not modules & {"torch", "mmengine", "mmseg", "mmcv"}
    plan = json.loads(ended.stdout)
    counts = {row["kind"]: (row["done"], row["missing"], row["stale"]) for row in plan["summary"]}
    assert counts == {"train": (0, 0, 0), "sample": (0, N, 0), "score": (272, 0, 0), "finetune": (272, 0, 0)}
    assert plan["disk"]["used"].keys() == {"scores", "performance", "keys"}
    assert all(size > 0 for size in [*plan["disk"]["used"].values(), plan["disk"]["free"]])
    assert plan["absent_datasets"] == {}


def test_each_file_is_looked_at_once_for_all_pairs(big, monkeypatch):
    """Hashes of a dataset's files are asked for three times, whatever the number of pairs: sample, train and eval."""
    study, world, run = big
    asked: list[str] = []
    original = CachedRun.records_key
    monkeypatch.setattr(CachedRun, "records_key", lambda *a: (asked.append(a[1]), original(*a))[1])
    assert {item.status.state for item in plan_items(snapshot(open_run(study, world, run)))} == {"missing", "done"}
    assert len(asked) == 3 * N


def test_many_stale_pairs_are_printed_in_few_lines(big, tmp_path):
    study, world, run = big
    changed = tmp_path / "study.yaml"
    fields = yaml.safe_load(study.read_text())
    fields |= {"manifests": [str(study.parent / "manifests")], "sampling": {"seed": 5}}
    changed.write_text(yaml.safe_dump(fields))
    items = plan_items(snapshot(open_run(changed, world, run)))
    stale = [item for item in items if item.status.state == "stale"]
    assert {(item.stage, item.status.reasons) for item in stale} == {("score", ("sampling.seed: 0 -> 5",))}
    assert len(stale) == 272
    lines = printed(items, run)
    assert len(lines) < 20
    (line,) = [line for line in lines if line.startswith("stale")]
    assert line.startswith("stale (sampling.seed: 0 -> 5): 272 score items on d00 (16), d01 (16)")
    assert line.endswith("and 11 more")


def printed(items: list[PlanItem], folder: Path, absent: dict[str, str] | None = None) -> list[str]:
    console = Console(record=True, width=80, file=io.StringIO())
    render_plan(StudyPlan(items, folder, absent or {}), console)
    return console.export_text().splitlines()


def item(stage: str, state: State, seconds: float | None = None, reasons: tuple[str, ...] = ()) -> PlanItem:
    return PlanItem(stage, "x", "s", "t", Status(state, reasons, seconds=seconds))


def test_the_summary_counts_and_multiplies():
    items = [
        item("train", "done", 1800.0),
        item("train", "done", 5400.0),
        item("train", "stale", 90000.0),
        item("train", "missing"),
        item("score", "stale", 7200.0),
        item("finetune", "missing"),
        item("sample", "missing"),
    ]
    rows = {row["kind"]: row for row in summary(items)}
    assert rows["train"] == {"kind": "train", "done": 2, "missing": 1, "stale": 1, "mean_seconds": 3600.0, "hours": 2.0}
    assert (rows["score"]["mean_seconds"], rows["score"]["hours"]) == (7200.0, 2.0)
    assert (rows["finetune"]["mean_seconds"], rows["finetune"]["hours"]) == (None, None)
    assert (rows["sample"]["mean_seconds"], rows["sample"]["hours"]) == (None, 0.0)


def test_what_was_never_measured_is_unknown(tmp_path):
    lines = printed([item("finetune", "missing")], tmp_path / "none")
    assert any(
        "unknown until an item is finished; run the stage with --dry-run for an estimate" in line for line in lines
    )
    assert "missing: x" in lines
    assert lines[-1].startswith("disk: nothing; ")


def test_an_absent_dataset_has_a_line_whatever_its_text_looks_like(tmp_path):
    absent = {"kitti": "[bold]/data/kitti is not a folder; to get the dataset: " + "x" * 200, "suim": "no [1]"}
    lines = printed([item("finetune", "missing")], tmp_path, absent)
    assert lines[-4:-1] == ["absent: 2 dataset(s) of the study", f"  kitti: {absent['kitti']}", "  suim: no [1]"]


def test_groups_are_bounded_and_the_rest_is_counted(tmp_path):
    items = [item("score", "stale", None, (f"weights of source {n}",)) for n in range(30) for _ in range(1 + (n == 7))]
    lines = printed(items, tmp_path)
    assert next(line for line in lines if line.startswith("stale")) == "stale (weights of source 7): x, x"
    assert "... and 18 more score items for 18 other reasons: see --json" in lines


def test_fine_tunings_in_several_kinds_of_arithmetic_are_reported(tmp_path):
    def tuned(*arithmetics: str, state: State = "done", stage: str = "finetune") -> list[PlanItem]:
        return [PlanItem(stage, "x", "s", "t", Status(state, seconds=1.0, arithmetic=name)) for name in arithmetics]

    mixed = tuned("float16", "", "bfloat16", "float16")
    line = "fine-tunings were computed in different arithmetic, which changes mIoU: bfloat16 (1), float16 (2), "
    assert f"{line}not recorded (1)" in printed(mixed, tmp_path)
    for alike in (
        tuned("float16", "float16"),
        [*tuned("float16"), *tuned("", state="missing"), *tuned("float32", stage="train")],
        [],
    ):
        assert not any("arithmetic" in line for line in printed(alike, tmp_path))


def test_the_number_of_source_observations_is_part_of_a_key():
    parts = score_key(content_key(a=1), "ids", content_key(b=1)).parts
    assert parts["source_images.1"] == str(SOURCE_OBSERVATIONS)
