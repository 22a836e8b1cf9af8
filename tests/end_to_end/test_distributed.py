"""torchrun: two processes on the CPU train and fine-tune together, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from seg_transfer.demo.world import build_world
from seg_transfer.models import load_checkpoint
from seg_transfer.resources import shipped
from seg_transfer.store.tables import PERFORMANCE, read_rows


def run_stage(stage: str, study: Path, folder: Path, processes: int) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "seg_transfer", stage, str(study)]
    options = ["--data-root", str(study.parent / "world"), "--run-folder", str(folder), "--threads", "1"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def study(tmp_path: Path) -> Path:
    build_world(tmp_path / "world", n_train=4, n_source_train=6, n_eval=2, size=(48, 64))
    schedule = {"schedule": str(shipped("configs/schedules/fine_tuning.yaml"))}
    changes = {"steps": 4, "batch_size": 4, "learning_rate": 0.02, "warmup_steps": 0, "checkpoint_every": 3}
    fields = {
        "name": "two_processes",
        "manifests": ["world/manifests"],
        "sources": ["day_street"],
        "targets": ["dusk_street"],
        "model": str(shipped("configs/models/hrnetv2_tiny.py")),
        "source_training": {**schedule, "changes": changes},
        "fine_tuning": {**schedule, "changes": changes, "scratch": False},
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(fields))
    return file


def test_two_processes_share_every_batch(study: Path, tmp_path: Path) -> None:
    said = run_stage("train-sources", study, tmp_path / "two", processes=2)
    assert said.count("source day_street: mIoU") == 1
    run_stage("train-sources", study, tmp_path / "one", processes=1)
    together, alone = (
        load_checkpoint(tmp_path / folder / "sources/day_street/weights.safetensors") for folder in ("two", "one")
    )
    card = json.loads((tmp_path / "two/sources/day_street/source.json").read_text())
    assert card["steps"] == 4
    # Both saw the same four images a step. Each half has its own batch statistics and its own mean over labelled
    # pixels, so the weights agree roughly, not to rounding; trained on other images they would not agree at all.
    first = "backbone.conv1.weight"
    difference = torch.linalg.vector_norm(together[first] - alone[first])
    assert difference < 0.1 * torch.linalg.vector_norm(alone[first])

    said = run_stage("finetune-pairs", study, tmp_path / "two", processes=2)
    assert said.count("day_street -> dusk_street, seed 0: mIoU") == 1
    rows = read_rows(tmp_path / "two/performance/day_street/dusk_street.parquet", PERFORMANCE)
    assert [row["steps"] for row in rows] == [4]
