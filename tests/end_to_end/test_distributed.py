"""Two processes on the CPU train and fine-tune one network together, over gloo, however they are started."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from end_to_end import ray_cluster, slurm_cluster
from end_to_end.test_pool import await_that, is_gone, started
from files import found_below

from seg_transfer.models import load_source_model
from seg_transfer.store import lease
from seg_transfer.store.lease import acquire, read_holder
from seg_transfer.store.source_card import read_source_card
from seg_transfer.training.crops import _order

CHANGES = {"steps": 12, "batch_size": 4, "learning_rate": 0.02, "warmup_steps": 0, "checkpoint_every": 1}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# So long processes wait for each other in one operation of their group: enough for a step on a busy machine.
GROUP_SECONDS = 15.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def pair(trained: Any, copy_of: Callable[[Any], Any]) -> Any:
    """One source that is not trained yet, and one target."""
    return untrained(trained, copy_of)


@pytest.fixture(scope="module")
def by_torchrun(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What torchrun itself makes of that pair."""
    from end_to_end.conftest import copied

    workspace = untrained(trained, lambda workspace: copied(workspace, tmp_path_factory.mktemp("torchrun")))
    for stage, said in (("train-sources", "source day_street: mIoU"), ("finetune-pairs", "seed 0: mIoU")):
        words = [sys.executable, *TORCHRUN, "-m", "seg_transfer", stage, *workspace.place(), "--threads", "1"]
        done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count(said) == 1
    return workspace


def untrained(trained: Any, copy_of: Callable[[Any], Any]) -> Any:
    workspace = copy_of(trained)
    for file in (workspace.run / "sources").rglob("*.*"):
        file.unlink()
    fields = workspace.study_fields()
    training, tuning = ({**fields[name], "changes": CHANGES} for name in ("source_training", "fine_tuning"))
    workspace.change(
        sources=["day_street"],
        targets=["dusk_street"],
        source_training=training,
        fine_tuning={**tuning, "scratch": False},
    )
    return workspace


def numbers(workspace: Any) -> tuple[bytes, float]:
    """The weights of the source and the mIoU of the pair."""
    (row,) = workspace.rows("performance")
    assert row["steps"] == CHANGES["steps"]
    return (workspace.run / "sources/day_street/weights.safetensors").read_bytes(), row["miou"]


def test_torchrun_trains_one_network_and_writes_it_once(by_torchrun, pair):
    card = read_source_card(by_torchrun.run / "sources/day_street/source.json")
    assert card.steps == CHANGES["steps"]
    assert load_source_model(by_torchrun.run / "sources/day_street/source.json").n_classes == len(card.classes)
    # Two that share a batch are not one that has it all: what follows could not tell otherwise.
    pair.done("train-sources")
    assert (pair.run / "sources/day_street/weights.safetensors").read_bytes() != numbers(by_torchrun)[0]


def test_the_default_engine_replaces_them_when_one_is_killed(by_torchrun, pair):
    command = started(pair, "train-sources", "--processes", "2")
    await_that(lambda: found_below(pair.run / "sources", "resume.pth") != [])
    first = rank(0, pair)
    os.kill(rank(1, pair), signal.SIGKILL)
    _, err = command.communicate(timeout=300)
    assert command.returncode == 0, err
    assert [line for line in err.splitlines() if line.startswith("seg-transfer: ")] == [
        "seg-transfer: a process was killed (SIGKILL); starting another in its place"
    ]
    assert is_gone(first)
    tuned = started(pair, "finetune-pairs", "--processes", "2")
    out, err = tuned.communicate(timeout=300)
    assert (tuned.returncode, out.count("seed 0: mIoU")) == (0, 1), err
    assert numbers(pair) == numbers(by_torchrun)


def ranks(number: int, workspace: Any) -> list[int]:
    """The processes of that rank that train for a workspace."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if str(workspace.run).encode() in words and f"RANK={number}".encode() in environment_of(place):
                found.append(int(place.name))
    return found


def rank(number: int, workspace: Any) -> int:
    """The one process of that rank."""
    (process,) = ranks(number, workspace)
    return process


def environment_of(place: Path) -> list[bytes]:
    return (place / "environ").read_bytes().split(b"\0")


@dataclass(frozen=True)
class FailingStudy:
    """A study of two sources, of which one has an image that only the second of two processes reads, and cannot."""

    workspace: Any
    image: Path

    def has_failed(self) -> bool:
        holder = read_holder(self.workspace.run / "leases/train/day_street")
        return holder is not None and bool(holder.failed)

    def goes_through(self, has_failed: Callable[[], bool], start: Callable[[], Any]) -> Any:
        """While the stage runs: another process holds the other source's lease for longer than processes of a group
        wait for each other, and then one that trains it is killed.
        """
        with acquire(self.workspace.run / "leases/train/dusk_street"):
            command = start()
            await_that(has_failed)
            await_that(lambda: ranks(1, self.workspace) != [])
            time.sleep(1.5 * GROUP_SECONDS)
        await_that(lambda: found_below(self.workspace.run / "sources/dusk_street", "resume.pth") != [])
        os.kill(ranks(1, self.workspace)[0], signal.SIGKILL)
        return command

    def check(self, said: str) -> None:
        lines = [line for line in said.splitlines() if line.startswith("seg-transfer: ")]
        assert sum(f"source day_street: {self.image}: cannot be decoded" in line for line in lines) == 1, said
        assert sum("other processes" in line or "closed" in line for line in lines) == 0, said
        assert "Traceback" not in said
        assert not (self.workspace.run / "sources/day_street/source.json").exists()
        assert read_source_card(self.workspace.run / "sources/dusk_street/source.json").steps == CHANGES["steps"]
        assert not found_below(self.workspace.run / "leases", "holder.json")


@pytest.fixture
def failing(pair: Any, monkeypatch: pytest.MonkeyPatch) -> FailingStudy:
    monkeypatch.setenv("SEG_TRANSFER_GROUP_SECONDS", str(GROUP_SECONDS))
    monkeypatch.setattr(lease, "EXPIRY", 3.0)  # of the one that is held here: its sign of life comes more often
    pair.change(sources=["day_street", "dusk_street"])
    images = sorted((pair.world / "day_street/source_train/images").iterdir())
    # The second process takes the second half of a batch.
    image = images[_order(0, 0, len(images))[CHANGES["batch_size"] - 1]]
    image.write_bytes(b"no image")
    return FailingStudy(pair, image)


def test_one_rank_that_fails_one_that_is_killed_and_a_lease_that_is_held(failing):
    command = failing.goes_through(
        failing.has_failed, lambda: started(failing.workspace, "train-sources", "--processes", "2")
    )
    _, err = command.communicate(timeout=300)
    assert command.returncode == 4, err
    assert "a process was killed (SIGKILL); starting another in its place" in err
    assert "seg-transfer: failed: source day_street; all others are finished" in err
    failing.check(err)


def test_an_eval_split_may_take_longer_than_processes_of_a_group_wait(failing, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(
        "import os, sys, time\n"
        "from seg_transfer.training import evaluate\n"
        "predict = evaluate.predict\n"
        "def slow(*arguments):\n"
        "    time.sleep(float(os.environ['RANK']) * 1.2 * float(os.environ['SEG_TRANSFER_GROUP_SECONDS']))\n"
        "    return predict(*arguments)\n"
        "evaluate.predict = slow\n"
        "from seg_transfer.cli.app import main\n"
        "main(sys.argv[1:])\n"
    )
    words = [str(script), "train-sources", *failing.workspace.place(), "--threads", "1", "--source", "dusk_street"]
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *words], capture_output=True, text=True, env=ENVIRONMENT | os.environ, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("source dusk_street: mIoU") == 1


def test_more_processes_than_gpus_are_refused(pair):
    command = started(pair, "train-sources", "--processes", "3", CUDA_VISIBLE_DEVICES="0,1")
    _, err = command.communicate(timeout=60)
    assert command.returncode == 3
    assert err == "seg-transfer: --processes 3: only 2 GPUs are visible, and each process needs one; use fewer\n"
    (line,) = pair.call("train-sources", "--processes", "2").err.splitlines()
    assert "--engine here uses one process only" in line


@pytest.mark.skipif(slurm_cluster.why_not() != "", reason=slurm_cluster.why_not())
def test_two_gpus_of_a_slurm_task_train_together(by_torchrun, pair, invoke, monkeypatch):
    with slurm_cluster.slurm_cluster(gpus=2) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        for stage in ("train", "finetune"):
            ended = invoke("submit", *pair.place(), "--stage", stage, "--gpus", "2", "--cpus", "1")
            job = re.match(r"job (\d+): 1 .* in 1 task;", ended.out)
            assert job, ended.err
            log = pair.run / f"slurm/logs/{stage}_{job[1]}_0.log"
            slurm_cluster.until(
                lambda log=log: log.exists() and re.search(r": (done|exit code .*)\n$", log.read_text()) is not None,
                lambda log=log: log.read_text() if log.exists() else cluster.log(),
                150,
            )
            assert log.read_text().endswith(": done\n")
    check = shlex.split(ended.out.splitlines()[1].partition(": ")[2])[1:]
    assert numbers(pair) == numbers(by_torchrun)
    assert "performance" not in invoke(*check).err


@pytest.mark.skipif(slurm_cluster.why_not() != "", reason=slurm_cluster.why_not())
def test_the_same_failures_in_slurm(failing, invoke, monkeypatch):
    logs: list[Path] = []

    def submit() -> None:
        ended = invoke("submit", *failing.workspace.place(), "--stage", "train", "--gpus", "2", "--cpus", "1")
        job = re.match(r"job (\d+): ", ended.out)
        assert job, ended.err
        logs.extend(failing.workspace.run / f"slurm/logs/train_{job[1]}_{task}.log" for task in (0, 1))

    def said(task: int) -> str:
        return logs[task].read_text() if logs[task].exists() else ""

    with slurm_cluster.slurm_cluster(gpus=2) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        failing.goes_through(lambda: "cannot be decoded" in said(0), submit)
        slurm_cluster.until(
            lambda: "; failed" in said(0) and said(1).endswith(": done\n"), lambda: said(0) + said(1), 200
        )
    assert "exit code 4; failed" in said(0)
    assert "exit code 137; requeued" in said(1)
    failing.check(said(0) + said(1))


@pytest.fixture
def ray() -> Iterator[Any]:
    with ray_cluster.started_cluster(cpus=2) as cluster:
        yield cluster


def test_a_ray_task_of_two_processes(by_torchrun, pair, ray):
    common = [*pair.place(), "--threads", "1", "--engine", "ray"]
    too_large = ray.start("train-sources", *common, "--processes", "3")
    _, err = too_large.communicate(timeout=ray_cluster.PATIENCE)
    assert too_large.returncode == 3
    assert "a task needs 3 CPUs and 0 GPUs on one node, and no node of the cluster has them" in err

    training = ray.start("train-sources", *common, "--processes", "2")
    ray_cluster.wait_until(lambda: found_below(pair.run / "sources", "resume.pth") != [], "a checkpoint is there")
    os.kill(rank(1, pair), signal.SIGKILL)
    out, err = training.communicate(timeout=ray_cluster.PATIENCE)
    assert training.returncode == 0, err
    assert out.count("source day_street: mIoU") == 1
    tuning = ray.start("finetune-pairs", *common, "--processes", "2")
    out, err = tuning.communicate(timeout=ray_cluster.PATIENCE)
    assert (tuning.returncode, out.count("seed 0: mIoU")) == (0, 1), err
    assert numbers(pair) == numbers(by_torchrun)


def test_the_same_failures_in_ray(failing, ray):
    words = [*failing.workspace.place(), "--threads", "1", "--engine", "ray", "--processes", "2"]
    driver = failing.goes_through(failing.has_failed, lambda: ray.start("train-sources", *words))
    _, err = driver.communicate(timeout=2 * ray_cluster.PATIENCE)
    assert driver.returncode == 4, err
    failing.check(err)
