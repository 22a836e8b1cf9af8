"""torchrun: two processes on the CPU train and fine-tune together, over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from seg_transfer.demo.world import build_world
from seg_transfer.models import load_source_model
from seg_transfer.resources import shipped
from seg_transfer.store.source_card import read_source_card
from seg_transfer.store.tables import PERFORMANCE, read_rows


def run_stage(stage: str, study: Path, folder: Path) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
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


def test_two_processes_train_one_network_and_write_it_once(study: Path, tmp_path: Path) -> None:
    said = run_stage("train-sources", study, tmp_path / "two")
    assert said.count("source day_street: mIoU") == 1
    card = read_source_card(tmp_path / "two/sources/day_street/source.json")
    assert card.steps == 4
    # The weights are those of one network: the processes agreed on every step.
    assert load_source_model(tmp_path / "two/sources/day_street/source.json").n_classes == len(card.classes)
    said = run_stage("finetune-pairs", study, tmp_path / "two")
    assert said.count("day_street -> dusk_street, seed 0: mIoU") == 1
    rows = read_rows(tmp_path / "two/performance/day_street/dusk_street.parquet", PERFORMANCE)
    assert [row["steps"] for row in rows] == [4]
