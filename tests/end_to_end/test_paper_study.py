"""The study of 272 pairs that comes with the software, without its datasets and with miniatures of them."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from data.miniatures import NAMES, build, manifest_of, write_manifest
from end_to_end.conftest import Bench, call, write_study

from seg_transfer.execution.study import load_study
from seg_transfer.metrics import METRICS
from seg_transfer.models.configs import read_model_config
from seg_transfer.resources import shipped

STUDY = shipped("configs/studies/paper_272.yaml")
COUNTS = {"train": 17, "sample": 17, "score": 272, "fine-tune": 272 + 17}


def words(data_root: Path, *options: str) -> list[str]:
    return ["plan", str(STUDY), "--data-root", str(data_root), "--run-folder", str(data_root / "run"), *options]


def test_the_study_is_the_papers() -> None:
    study, manifests = load_study(STUDY)
    assert sorted(manifests) == sorted(study.targets) == sorted(source.name for source in study.sources) == list(NAMES)
    assert {source.kind for source in study.sources} == {"study"}
    scored = {name for name in METRICS if "scores" not in METRICS[name].needs}
    assert set(study.metrics) == scored > {"gbc", "leep", "nleep", "logme", "h_score"}
    assert {name: manifest.low_shot.limit for name, manifest in manifests.items()} == {
        name: 1000 if name in ("ade20k", "coco") else 150 for name in NAMES
    }
    assert study.fine_tuning is not None
    assert study.fine_tuning.scratch
    assert study.model is not None
    assert read_model_config(study.model)["backbone"]["extra"]["stage4"]["num_channels"] == [48, 96, 192, 384]


def test_without_any_dataset_the_plan_lists_all_items_and_how_to_get_each(tmp_path: Path) -> None:
    """Quickly, and without torch."""
    command = [sys.executable, "-X", "importtime", "-m", "seg_transfer", *words(tmp_path, "--json")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.5  # 1.4 on two shared cores
    modules = {line.rsplit("|", 1)[-1].strip() for line in ended.stderr.splitlines()}
    assert "seg_transfer.execution.plan" in modules
    assert not modules & {"torch", "mmengine", "mmseg", "mmcv"}
    plan = json.loads(ended.stdout)
    assert {row["kind"]: row["missing"] for row in plan["summary"]} == COUNTS
    assert len(plan["items"]) == sum(COUNTS.values())
    assert {item["state"] for item in plan["items"]} == {"missing"}
    assert list(plan["absent_datasets"]) == list(NAMES)
    for name, line in plan["absent_datasets"].items():
        manifest = manifest_of(name)
        assert line.startswith(f"{tmp_path / manifest.root} is not a folder; ")
        assert line.endswith(f"; to get the dataset: {manifest.obtain}")
    assert not (tmp_path / "run").exists()


def test_datasets_that_are_there_are_not_listed(tmp_path: Path, invoke) -> None:
    for name in ("bdd", "coco", "kitti"):
        build(name, tmp_path, size=(12, 16))
    (tmp_path / "kitti/splits/val.txt").unlink()
    ended = invoke(*words(tmp_path))
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    begin = lines.index("absent: 15 dataset(s) of the study")
    listed = [line.split(":")[0].strip() for line in lines[begin + 1 : begin + 16]]
    assert listed == [name for name in NAMES if name not in ("bdd", "coco")]
    assert (
        f"  kitti: {tmp_path}/kitti has no splits/val.txt; to get the dataset: data_semantics.zip of http" in ended.out
    )


def test_matlab_and_panoptic_labels_go_all_the_way(tmp_path: Path) -> None:
    """Trained on, sampled, scored and evaluated; another category of one segment makes stale what rests on it."""
    names = ("coco", "pascal_context")
    for name in names:
        build(name, tmp_path / "world", n_train=3)
        write_manifest(name, tmp_path / "world/manifests")
    write_study(tmp_path / "study.yaml", {"sources": list(names), "targets": list(names), "metrics": ["gbc", "leep"]})
    bench = Bench(tmp_path / "world", tmp_path / "study.yaml", tmp_path / "run")
    for stage in ("train-sources", "score-pairs", "finetune-pairs"):
        bench.done(stage)
    assert {(row["source"], row["target"], row["n_classes"] > 2) for row in bench.rows("scores")} == {
        ("coco", "pascal_context", True),
        ("pascal_context", "coco", True),
    }
    assert len(bench.rows("performance")) == 4

    file = tmp_path / "world/coco/annotations/panoptic_val2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = 62
    file.write_text(json.dumps(content))
    stale = {item["name"]: item["reasons"] for item in planned(bench) if item["state"] == "stale"}
    assert stale == {
        "source coco": ["records of coco eval"],
        "scratch -> coco, seed 0": ["records of coco eval"],
        "pascal_context -> coco, seed 0": ["records of coco eval"],
    }


def planned(bench: Bench) -> list[dict[str, Any]]:
    ended = call("plan", *bench.place(), "--json")
    assert (ended.code, ended.err) == (0, "")
    return list(json.loads(ended.out)["items"])


def test_a_stage_names_the_folder_of_a_missing_dataset_and_how_to_get_it(tmp_path: Path, invoke) -> None:
    place = [str(STUDY), "--data-root", str(tmp_path), "--run-folder", str(tmp_path / "run"), "--engine", "here"]
    reason = invoke("train-sources", *place, "--threads", "1", "--source", "bdd").reason(4)
    assert reason.startswith(f"source bdd: bdd source_train: {tmp_path}/bdd100k is not a folder; correct the data root")
    assert reason.endswith(f"; to get the dataset: {manifest_of('bdd').obtain}")
