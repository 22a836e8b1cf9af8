"""Two processes on the CPU train and fine-tune one network together, over gloo, however they are started."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end import ray_cluster, slurm_cluster
from end_to_end.test_pool import await_that, is_gone, started
from files import found_below

from seg_transfer.models import load_source_model
from seg_transfer.store.source_card import read_source_card

CHANGES = {"steps": 12, "batch_size": 4, "learning_rate": 0.02, "warmup_steps": 0, "checkpoint_every": 1}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def pair(trained: Any, copy_of: Callable[[Any], Any]) -> Any:
    """One source that is not trained yet, and one target."""
    return untrained(trained, copy_of)


@pytest.fixture(scope="module")
def by_torchrun(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What torchrun itself makes of that pair."""
    from end_to_end.conftest import copied

    bench = untrained(trained, lambda bench: copied(bench, tmp_path_factory.mktemp("torchrun")))
    for stage, said in (("train-sources", "source day_street: mIoU"), ("finetune-pairs", "seed 0: mIoU")):
        words = [sys.executable, *TORCHRUN, "-m", "seg_transfer", stage, *bench.place(), "--threads", "1"]
        done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count(said) == 1
    return bench


def untrained(trained: Any, copy_of: Callable[[Any], Any]) -> Any:
    bench = copy_of(trained)
    for file in (bench.run / "sources").rglob("*.*"):
        file.unlink()
    fields = bench.study_fields()
    training, tuning = ({**fields[name], "changes": CHANGES} for name in ("source_training", "fine_tuning"))
    bench.change(
        sources=["day_street"],
        targets=["dusk_street"],
        source_training=training,
        fine_tuning={**tuning, "scratch": False},
    )
    return bench


def numbers(bench: Any) -> tuple[bytes, float]:
    """The weights of the source and the mIoU of the pair."""
    (row,) = bench.rows("performance")
    assert row["steps"] == CHANGES["steps"]
    return (bench.run / "sources/day_street/weights.safetensors").read_bytes(), row["miou"]


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
        "seg-transfer: a process was killed (SIGKILL); another takes its place"
    ]
    assert is_gone(first)
    tuned = started(pair, "finetune-pairs", "--processes", "2")
    out, err = tuned.communicate(timeout=300)
    assert (tuned.returncode, out.count("seed 0: mIoU")) == (0, 1), err
    assert numbers(pair) == numbers(by_torchrun)


def rank(number: int, bench: Any) -> int:
    """The process of that rank that trains for a bench."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if str(bench.run).encode() in words and f"RANK={number}".encode() in environment_of(place):
                return int(place.name)
    raise AssertionError(f"no process of rank {number}")


def environment_of(place: Path) -> list[bytes]:
    return (place / "environ").read_bytes().split(b"\0")


def test_a_mistake_is_said_in_one_line_with_its_exit_code(pair):
    image = min((pair.world / "day_street/source_train/images").iterdir())
    image.write_bytes(b"no image")
    command = started(pair, "train-sources", "--processes", "2")
    _, err = command.communicate(timeout=300)
    assert command.returncode == 4
    lines = [line for line in err.splitlines() if line.startswith("seg-transfer: ")]
    assert sum(f"{image}: cannot be decoded" in line for line in lines) == 1
    assert "Traceback" not in err


def test_more_processes_than_gpus_are_refused(pair):
    command = started(pair, "train-sources", "--processes", "3", CUDA_VISIBLE_DEVICES="0,1")
    _, err = command.communicate(timeout=60)
    assert command.returncode == 3
    assert err == "seg-transfer: --processes 3: 2 GPUs are visible here, one per process; ask for fewer\n"
    (line,) = pair.call("train-sources", "--processes", "2").err.splitlines()
    assert "--engine here is this process alone" in line


@pytest.mark.skipif(slurm_cluster.why_not() != "", reason=slurm_cluster.why_not())
def test_two_gpus_of_a_slurm_task_train_together(by_torchrun, pair, invoke, monkeypatch):
    with slurm_cluster.slurm_cluster(gpus=2) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        for stage in ("train", "finetune"):
            ended = invoke("submit", *pair.place(), "--stage", stage, "--gpus", "2", "--cpus", "1")
            job = re.match(r"job (\d+): 1 tasks", ended.out)
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


@pytest.fixture
def ray() -> Iterator[Any]:
    with ray_cluster.started_cluster(cpus=2) as cluster:
        yield cluster


def test_a_ray_task_of_two_processes(by_torchrun, pair, ray):
    common = [*pair.place(), "--threads", "1", "--engine", "ray"]
    too_large = ray.start("train-sources", *common, "--processes", "3")
    _, err = too_large.communicate(timeout=ray_cluster.PATIENCE)
    assert too_large.returncode == 3
    assert "a task needs 3 CPUs and 0 GPUs of one node, and no node of the cluster has them" in err

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
