"""The default engine: a stage in processes of its own, which are replaced when they are killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from files import found_below

from seg_transfer.engines import local as pool
from seg_transfer.store.lease import read_holder

_PATIENCE = 200.0


# Put into every process that a command starts: the first that take the lease of a pair send themselves a signal then.
AT_LEASE = """
import os, sys
from pathlib import Path
taken, before = [], Path(__file__).with_name("before")
def act(event, about):
    if event == "os.rename" and Path(about[1]).match("leases/score/{pair}"):
        taken.append(about[1])  # or it will be, if no other process was faster: the event comes before the deed
    elif event == "open" and taken:
        from seg_transfer.store.lease import read_holder
        holder = read_holder(Path(taken.pop()))
        if holder is not None and holder.process == os.getpid() and len(os.listdir(before)) < {times}:
            (before / str(os.getpid())).touch()
            os.kill(os.getpid(), {number})
sys.addaudithook(act)
"""


def at_lease(workspace: Any, pair: str, number: signal.Signals, times: int) -> dict[str, str]:
    """The environment of a command whose processes send themselves a signal when they work on this pair, or pattern."""
    folder = workspace.run.parent / "at_lease"
    (folder / "before").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(AT_LEASE.format(pair=pair, number=int(number), times=times))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def started(workspace: Any, stage: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    """A stage with the default engine, in a process group of its own."""
    words = [*workspace.place(), "--threads", "1", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "seg_transfer", stage, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def error_lines(err: str) -> list[str]:
    """Lines without estimates of the remaining time, which only a slow machine prints."""
    return [line for line in err.splitlines() if not line.endswith(" s left")]


def await_holder(workspace: Any, kind: str, unlike: set[int]) -> int:
    """The process that works on an item, once it is none of these."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for file in found_below(workspace.run / "leases" / kind, "holder.json"):
            holder = read_holder(file.parent)
            if holder is not None and holder.process not in unlike and not holder.failed:
                return holder.process
        time.sleep(0.001)
    raise AssertionError("no process took a lease")


def state_of(process: int) -> str:
    """T: stopped; Z: gone, or no longer known at all."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def is_gone(process: int) -> bool:
    return state_of(process) == "Z"


def await_that(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def unscored(finished, copy_of):
    workspace = copy_of(finished)
    for file in workspace.run.glob("scores/*/*"):
        file.unlink()
    return workspace


def test_a_killed_process_is_replaced_and_its_pair_scored(unscored, finished):
    command = started(unscored, "score-pairs")
    victim = await_holder(unscored, "score", set())
    os.kill(victim, signal.SIGKILL)
    out, err = command.communicate(timeout=_PATIENCE)
    assert command.returncode == 0, err
    assert "a process was killed (SIGKILL); starting another in its place" in err
    assert sorted(re.findall(r"^\S+ -> \S+(?=:)", out, re.M)) == sorted(set(re.findall(r"^\S+ -> \S+(?=:)", out, re.M)))
    key = ("source", "target", "metric", "score", "standard_error", "content_key")
    assert [[row[name] for name in key] for row in unscored.rows("scores")] == [
        [row[name] for name in key] for row in finished.rows("scores")
    ]
    assert not (unscored.run / "leases").exists()


def test_an_item_that_crashes_three_processes_is_given_up_and_the_others_finished(unscored):
    poison = at_lease(unscored, "dusk_street/cells_dark", signal.SIGKILL, times=3)
    command = started(unscored, "score-pairs", **poison)
    _, err = command.communicate(timeout=_PATIENCE)
    assert err.count("a process was killed (SIGKILL); starting another in its place") == 3
    assert "dusk_street -> cells_dark: 3 processes crashed while they worked on it; find out why" in err
    assert err.splitlines()[-1].startswith("seg-transfer: failed: dusk_street -> cells_dark; all others are finished")
    assert command.returncode == 1
    done = {
        path.relative_to(unscored.run / "scores").with_suffix("").as_posix()
        for path in unscored.run.glob("scores/*/*.parquet")
    }
    assert len(done) == 5
    assert "dusk_street/cells_dark" not in done
    assert not (unscored.run / "leases").exists()
    # The same command again tries it again.
    again = started(unscored, "score-pairs")
    again.communicate(timeout=_PATIENCE)
    assert again.returncode == 0
    assert len(list(unscored.run.glob("scores/*/*.parquet"))) == 6


def test_two_gpus_are_two_processes_that_share_the_pairs(unscored):
    stopped = at_lease(unscored, "*/*", signal.SIGSTOP, times=2)  # so that both have begun before one ends
    command = started(unscored, "score-pairs", CUDA_VISIBLE_DEVICES="0,1", **stopped)
    first = await_holder(unscored, "score", set())
    second = await_holder(unscored, "score", {first})
    devices = {
        Path(f"/proc/{process}/environ").read_bytes().partition(b"CUDA_VISIBLE_DEVICES=")[2].partition(b"\0")[0]
        for process in (first, second)
    }
    for process in (first, second):
        await_that(lambda process=process: state_of(process) == "T")
        os.kill(process, signal.SIGCONT)
    out, err = command.communicate(timeout=_PATIENCE)
    assert (command.returncode, error_lines(err)) == (0, [])
    assert devices == {b"0", b"1"}
    assert len(re.findall(r"^\S+ -> \S+:", out, re.M)) == 6


def test_a_device_that_is_named_is_one_process(unscored):
    command = started(unscored, "score-pairs", "--device", "cpu", CUDA_VISIBLE_DEVICES="0,1")
    holders = set()
    while command.poll() is None:
        for file in found_below(unscored.run / "leases/score", "holder.json"):
            holders |= {holder.process for holder in [read_holder(file.parent)] if holder is not None}
        time.sleep(0.001)
    _, err = command.communicate()
    assert (command.returncode, error_lines(err), len(holders)) == (0, [], 1)


def test_an_item_that_fails_is_said_once_however_many_processes_there_are(unscored):
    image = next((unscored.world / "cells_dark").rglob("train/labels/*"))
    image.write_bytes(b"no image")
    command = started(unscored, "score-pairs", CUDA_VISIBLE_DEVICES="0,1")
    _, err = command.communicate(timeout=_PATIENCE)
    assert command.returncode == 4
    reasons = [line for line in err.splitlines() if image.name in line]
    assert 1 <= len(reasons) <= 2  # a process that has another pair of that target says so too
    (summary,) = [line for line in err.splitlines() if "failed:" in line]
    assert "day_street -> cells_dark" in summary
    assert "dusk_street -> cells_dark" in summary
    assert len(list(unscored.run.glob("scores/*/*.parquet"))) == 4


def test_what_ends_a_process_before_any_item_is_said_once_with_its_exit_code(unscored):
    command = started(unscored, "score-pairs", "--device", "cuda:9")
    out, err = command.communicate(timeout=_PATIENCE)
    assert command.returncode == 3
    assert out == ""
    (line,) = error_lines(err)
    assert line.startswith("seg-transfer: --device cuda:9: not usable here")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(unscored, how):
    command = started(unscored, "score-pairs")
    worker = await_holder(unscored, "score", set())
    os.kill(command.pid, how)
    command.communicate(timeout=_PATIENCE)
    assert command.returncode in {130, -how}
    await_that(lambda: is_gone(worker))


def test_visible_gpus_are_those_that_the_variable_names(monkeypatch, tmp_path):
    for value, expected in (("", []), ("-1", []), ("0", ["0"]), ("2, 3", ["2", "3"]), ("GPU-1a", ["GPU-1a"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert pool.visible_gpus() == expected


@pytest.mark.parametrize(("script", "expected"), [("echo 0; echo 1", ["0", "1"]), ("echo no driver; exit 9", [])])
def test_without_the_variable_the_driver_is_asked(script, expected, monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert pool.visible_gpus() == expected
    monkeypatch.setenv("PATH", "")
    assert pool.visible_gpus() == []
