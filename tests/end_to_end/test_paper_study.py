"""The paper's study in miniature: 17 datasets in their official layouts, a tiny network, all 272 pairs, evaluated."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from data.miniatures import NAMES, build, write_manifest

from seg_transfer.resources import shipped

# Noise teaches nothing: two steps prove the way of the data, and that is what is proven here.
CHANGES = {"steps": 2, "batch_size": 2, "warmup_steps": 0, "checkpoint_every": 10, "learning_rate": 0.01}
METRICS = ["gbc", "leep", "logme", "h_score", "nleep"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    for name in NAMES:
        build(name, folder / "data", n_train=3)
        write_manifest(name, folder / "manifests")
    fields: dict[str, Any] = yaml.safe_load(shipped("configs/studies/paper_272.yaml").read_text())
    for stage in ("source_training", "fine_tuning"):
        fields[stage] = {"schedule": str(shipped(f"configs/schedules/{stage}.yaml")), "changes": CHANGES}
    fields |= {
        "manifests": ["manifests"],
        "model": str(shipped("configs/models/hrnetv2_tiny.py")),
        "metrics": METRICS,
        "sampling": {"pixels_per_image": 60},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(fields))
    return folder / "study.yaml"


def words(study: Path) -> list[str]:
    return [str(study), "--data-root", str(study.parent / "data"), "--run-folder", str(study.parent / "run")]


def in_two_processes(stage: str, study: Path) -> None:
    """A stage as two shards at once, each on one core."""
    command = [sys.executable, "-m", "seg_transfer", stage, *words(study), "--engine", "here", "--threads", "1"]
    running = [
        subprocess.Popen(
            [*command, "--shard", f"{shard}/2"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for shard in range(2)
    ]
    for process in running:
        _, err = process.communicate(timeout=1500)
        assert process.returncode == 0, err[-3000:]


def test_all_272_pairs_are_scored_fine_tuned_and_evaluated(study, invoke, capsys):
    began = time.monotonic()
    in_two_processes("train-sources", study)
    in_two_processes("score-pairs", study)
    in_two_processes("finetune-pairs", study)
    took = time.monotonic() - began
    run = study.parent / "run"

    planned = json.loads(invoke("plan", *words(study), "--json").out)
    assert planned["absent_datasets"] == {}
    assert invoke("plan", *words(study), "--check").code == 0
    assert len(list(run.glob("scores/*/*.parquet"))) == 17 * 16
    assert len(list(run.glob("performance/*/*.parquet"))) == 17 * 16 + 17

    ended = invoke("evaluate", str(run), "--json")
    assert (ended.code, ended.err) == (0, "")
    rows = json.loads(ended.out)
    assert {row["n_groups"] for row in rows} == {17}
    assert {row["n_too_small"] for row in rows} == {0}
    fixed_target = [row["metric"] for row in rows if row["scenario"] == "fixed_target"]
    # The last layers of many classes add more than a tenth to the tiny network's work, less to its parameters.
    # All sources saw three images.
    controls = ["gflops", "own_miou", "mean_rank_elsewhere", "random"]
    assert fixed_target == [*METRICS, "rank_mean", *controls]
    tables = invoke("evaluate", str(run)).out
    with capsys.disabled():
        print(f"\n272 pairs of 17 miniatures, trained, scored and fine-tuned in {took:.0f} s on two cores")
        print(tables[tables.index("Fixed target: ranking sources, mean over") :])
