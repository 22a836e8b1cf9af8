"""A stage that is killed is continued by the same command, and ends with the numbers of an undisturbed run."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from files import found_below
from leftovers import gone_identity, temporary_of

from seg_transfer.stages import finetuning, training

LONG = {"steps": 40, "checkpoint_every": 3}
_PATIENCE = 300.0  # seconds until a process that never writes what is awaited fails the test


def kill_once(there: Callable[[], bool], workspace: Any, stage: str, *options: str) -> None:
    """Start a stage in a process of its own and kill it, without warning, as soon as `there` is true."""
    command = [sys.executable, "-m", "seg_transfer", stage, *workspace.words(), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + _PATIENCE
    try:
        while not there() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.kill()
        output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"ended before it was killed: {output.decode()}"
    assert there(), output.decode()


def leave_half_a_file(folder: Path) -> None:
    """What a process leaves that was killed while it wrote; chance alone would decide whether one of ours did."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary_of(gone_identity(), folder / "half.parquet").write_bytes(b"PAR1")


def half_files(workspace: Any) -> list[Path]:
    return [path for path in workspace.run.rglob("*") if path.name.endswith(".part")]


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[int]]:
    """Listens to the steps that a stage reports."""

    def listen(stage: ModuleType) -> list[int]:
        heard: list[int] = []

        @contextlib.contextmanager
        def progress_of(_title: str) -> Iterator[Callable[[int, int], None]]:
            yield lambda done, _total: heard.append(done)

        monkeypatch.setattr(stage, "progress_of", progress_of)
        return heard

    return listen


def test_killed_scoring_keeps_its_pairs_and_scores_the_others(finished, copy_of):
    workspace = copy_of(finished)
    for file in workspace.run.glob("scores/*/*"):
        file.unlink()
    # The same networks under more names: pairs enough to be killed among them.
    again = [
        {"name": f"{name}_{k}", "dataset": name, "config": str(workspace.run / f"sources/{name}/source.json")}
        for k in range(4)
        for name in ("day_street", "dusk_street", "cells_dark")
    ]
    workspace.change(sources=["day_street", "dusk_street", "cells_dark", *again])

    kill_once(lambda: any(workspace.run.glob("scores/*/*.parquet")), workspace, "score-pairs")
    kept = workspace.state("scores")
    assert 0 < len([name for name in kept if name.endswith(".parquet")]) < 30
    leave_half_a_file(workspace.run / "scores/day_street")

    workspace.done("score-pairs")
    after = workspace.state("scores")
    assert {name: after[name] for name in kept if name.endswith(".parquet")} == {
        name: content for name, content in kept.items() if name.endswith(".parquet")
    }
    assert half_files(workspace) == []
    undisturbed = {(row["source"], row["target"], row["metric"]): row["score"] for row in finished.rows("scores")}
    rows = workspace.rows("scores")
    assert len(rows) == 5 * len(undisturbed)
    for row in rows:
        name = row["source"].rstrip("_0123")
        assert row["score"] == undisturbed[name, row["target"], row["metric"]]


def test_killed_fine_tuning_resumes_and_ends_with_the_same_miou(finished, copy_of, tmp_path, ticks):
    only = ("--source", "day_street", "--target", "cells_dark")
    workspace = copy_of(finished)
    tuning = yaml.safe_load(workspace.study.read_text())["fine_tuning"]
    workspace.change(fine_tuning={**tuning, "changes": tuning["changes"] | LONG})

    def started() -> bool:
        return found_below(workspace.run / "fine_tuning/day_street/cells_dark", "resume.pth") != []

    before = workspace.state("performance")
    kill_once(started, workspace, "finetune-pairs", *only)
    assert workspace.state("performance") == before
    leave_half_a_file(workspace.run / "fine_tuning/day_street/cells_dark")

    steps = ticks(finetuning)
    workspace.done("finetune-pairs", *only)
    resumed = steps.copy()
    assert resumed[0] > 3
    assert resumed == list(range(resumed[0], 41))
    assert half_files(workspace) == []
    assert not started()

    found = the_row(workspace)
    (workspace.run / "performance/day_street/cells_dark.parquet").unlink()
    workspace.done("finetune-pairs", *only)
    assert steps[len(resumed) :] == list(range(1, 41))
    undisturbed = the_row(workspace)
    for name in ("miou", "class_iou", "content_key", "steps"):
        assert found[name] == undisturbed[name]
    assert found["miou"] != the_row(finished)["miou"]


def test_a_killed_source_training_resumes_and_ends_with_the_same_weights(trained, copy_of, ticks):
    workspace = copy_of(trained)
    fields = yaml.safe_load(workspace.study.read_text())["source_training"]
    workspace.change(source_training={**fields, "changes": fields["changes"] | LONG})
    folder = workspace.run / "sources/dusk_street"
    only = ("--source", "dusk_street")

    kill_once(lambda: found_below(folder, "resume.pth") != [], workspace, "train-sources", *only)
    leave_half_a_file(folder)

    steps = ticks(training)
    workspace.done("train-sources", *only)
    assert steps == list(range(steps[0], 41))
    assert steps[0] > 3
    assert half_files(workspace) == []
    assert sorted(path.name for path in folder.iterdir()) == ["load.py", "source.json", "weights.safetensors"]
    resumed = (folder / "weights.safetensors").read_bytes()
    assert resumed != (trained.run / "sources/dusk_street/weights.safetensors").read_bytes()

    for file in folder.iterdir():
        file.unlink()
    workspace.done("train-sources", *only)
    assert (folder / "weights.safetensors").read_bytes() == resumed


def the_row(workspace: Any) -> dict[str, Any]:
    rows = workspace.rows("performance")
    return next(row for row in rows if (row["source"], row["target"]) == ("day_street", "cells_dark"))


def test_an_eval_image_that_must_be_fixed_does_not_lose_the_training(finished, copy_of, ticks):
    only = ("--source", "day_street", "--target", "cells_dark")
    workspace = copy_of(finished)
    (workspace.run / "performance/day_street/cells_dark.parquet").unlink()
    image = workspace.world / "cells_dark/eval/images/eval_0000.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])

    steps = ticks(finetuning)
    assert "eval_0000.png: cannot be decoded" in workspace.call("finetune-pairs", *only).reason(4)
    taken = steps.copy()
    assert taken
    image.write_bytes(whole)
    workspace.done("finetune-pairs", *only)
    assert steps == taken
    assert the_row(workspace)["miou"] == the_row(finished)["miou"]
