"""Processes that are killed, stopped or run beside each other on one run folder: nothing lost, nothing twice."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from forked import Forker

from seg_transfer.store.lease import read_holder

# What differs between two runs that are the same.
TIMES = {"created_utc", "seconds"}
KILLS = 50


@pytest.fixture
def many_pairs(finished, copy_of):
    """No pair scored, and 50 to score: the same networks under more names."""
    workspace = copy_of(finished)
    for file in workspace.run.glob("scores/*/*"):
        file.unlink()
    names = ("day_street", "dusk_street", "cells_dark")
    again = [
        {"name": f"{name}_{k}", "dataset": name, "config": str(workspace.run / f"sources/{name}/source.json")}
        for k in range(9)
        for name in names
    ]
    workspace.change(sources=again[:25])
    return workspace


def content(run: Path) -> dict[str, Any]:
    """All that a run folder holds, but for times."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(file.relative_to(run))
        if file.suffix != ".parquet":
            found[name] = file.read_bytes()
            continue
        table = pq.read_table(file, partitioning=None, page_checksum_verification=True)
        columns = {column: table[column].to_pylist() for column in table.column_names if column not in TIMES}
        found[name] = (columns, table.schema.metadata)
    return found


def finished_pairs(workspace: Any) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in workspace.run.glob("scores/*/*.parquet")}


def scored(log: Path) -> list[str]:
    """The pairs that processes said they scored."""
    return [line.partition(":")[0] for line in log.read_text().splitlines() if " -> " in line and "gbc" in line]


def test_fifty_kills_leave_what_an_undisturbed_run_leaves(many_pairs, tmp_path):
    workspace, log, undisturbed = many_pairs, tmp_path / "log", tmp_path / "undisturbed"
    words = workspace.words()
    with Forker() as forker:
        assert forker.wait(forker.start(log, "score-pairs", *words)) == 0
        workspace.run.rename(undisturbed)
        expected = content(undisturbed)
        for name in ("scores", "samples"):
            for file in undisturbed.rglob(f"{name}/**/*.parquet"):
                file.unlink()
        undisturbed.rename(workspace.run)

        chance, killed = random.Random(0), 0
        while killed < KILLS:
            before = finished_pairs(workspace)
            log.write_text("")
            process = forker.start(log, "score-pairs", *words)
            # After the start or after some pairs, and then anywhere in the next one; as fast as this machine is.
            pairs = chance.randrange(min(3, 50 - len(before)))
            wait_until(lambda pairs=pairs: len(scored(log)) >= pairs)
            time.sleep(chance.uniform(0, 0.2))
            os.kill(process, signal.SIGKILL)
            killed += forker.wait(process) == -signal.SIGKILL
            after = finished_pairs(workspace)
            # What was finished is as it was; what was said to be is there; at most the pair in hand is lost.
            assert {name: after.get(name) for name in before} == before
            assert len(scored(log)) <= len(after) - len(before) <= len(scored(log)) + 1
            if len(after) == 50:  # begin again, so that kills go on finding work
                for name in after:
                    Path(name).unlink()
        assert forker.wait(forker.start(log, "score-pairs", *words)) == 0
    assert content(workspace.run) == expected
    assert [path for path in workspace.run.rglob("*") if path.name.endswith(".part")] == []
    assert not (workspace.run / "leases").exists()


def test_eight_processes_share_the_pairs_and_take_over_what_one_leaves(many_pairs, tmp_path):
    workspace = many_pairs
    logs = [tmp_path / f"log{number}" for number in range(8)]
    with Forker(SEG_TRANSFER_LEASE_SECONDS="3") as forker:
        processes = [forker.start(log, "score-pairs", *workspace.words()) for log in logs]
        stopped = wait_for_a_holder(workspace, processes)
        os.kill(stopped, signal.SIGSTOP)
        killed = wait_for_a_holder(workspace, [process for process in processes if process != stopped])
        os.kill(killed, signal.SIGKILL)
        assert forker.wait(killed) == -signal.SIGKILL
        others = [process for process in processes if process not in (stopped, killed)]
        assert [forker.wait(process) for process in others] == [0] * 6, [log.read_text() for log in logs]
        done = finished_pairs(workspace)
        assert len(done) == 50
        os.kill(stopped, signal.SIGCONT)
        assert forker.wait(stopped) == 0
    assert finished_pairs(workspace) == done
    said = [pair for log in logs for pair in scored(log)]
    # A process that is killed between writing a pair and saying so leaves one unsaid.
    assert len(said) == len(set(said)) >= 49
    assert not (workspace.run / "leases").exists()


def wait_for_a_holder(workspace: Any, processes: list[int]) -> int:
    """One of these processes while it works on a pair."""
    found: list[int] = []

    def seen() -> bool:
        holders = [read_holder(file.parent) for file in workspace.run.glob("leases/score/*/*/holder.json")]
        found.extend(holder.process for holder in holders if holder is not None and holder.process in processes)
        return found != []

    wait_until(seen)
    return found[0]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
