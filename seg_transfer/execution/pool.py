"""A stage on this machine in processes of its own: one per visible GPU, one where there is none.

Every process goes through the whole stage; leases keep them apart, and the item of one that is killed is taken up by
its successor. What they print comes through; what failed in any of them ends the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.execution.messages import complain
from seg_transfer.execution.progress import Tick, progress_of
from seg_transfer.execution.run import end_with
from seg_transfer.execution.session import ATTACHED, EVENT, WORKER
from seg_transfer.store.lease import MOST_DEATHS, SESSION, clear, failures
from seg_transfer.training.launch import command, signal_of

# Seconds that a process has to end by itself when the command is interrupted.
_PATIENCE = 20.0
# In a row, without a finished item: more than one item alone can cause.
_MOST_DEATHS = 2 * MOST_DEATHS


@dataclass
class _Pool:
    """``lines``: what the processes print, with the stream it is for. ``done``: labels of finished items.
    ``deaths``: of processes since the last item was finished."""

    command: Sequence[str]
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    lines: queue.SimpleQueue[tuple[str, IO[str]]] = field(default_factory=queue.SimpleQueue)
    processes: dict[subprocess.Popen[str], dict[str, str]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    deaths: int = 0
    code: int = 0


def run_in_pool(words: Sequence[str], leases: Path, title: str, gpus: Sequence[str] = (), together: int = 1) -> None:
    """Run a stage in processes of its own and wait for them.

    A process that is killed is replaced. An item with which three died is given up, and reported.

    Args:
        words: The command line of the stage, for one process.
        leases: Where the leases of its run folder lie.
        title: Of its progress.
        gpus: Each has a process of its own; without any there is one process.
        together: So many processes work on one item together, each on a GPU of its own.

    Raises:
        ConfigError: There are fewer GPUs than processes that work together.
        IncompleteError: Items failed; the reasons were said.
        SegTransferError: Processes were killed before they began with any item.
        SystemExit: A process ended for a reason that it has said, with the exit code of that.
    """
    shares = _shares(gpus, together)
    pool, number = _Pool(command(words, together)), max(len(shares), 1)
    with progress_of(title) as tick:
        try:
            for index in range(number):
                device = {"CUDA_VISIBLE_DEVICES": shares[index]} if shares else {}
                own = {SESSION: pool.session, ATTACHED: "1", WORKER: f"{index}/{number}"}
                _start(pool, {**os.environ, **device, **own})
            while pool.processes:
                _forward(pool, tick)
                _look_after(pool)
            _forward(pool, tick)
        finally:
            _end(pool)
    failed = failures(leases, pool.session)
    clear(leases)
    end_with({what: why for what, why, _ in failed}, {code for _, _, code in failed})
    if pool.code:
        raise SystemExit(pool.code)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without loading torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.replace(" ", "").split(",") if device and device != "-1"]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []


def _shares(gpus: Sequence[str], together: int) -> list[str]:
    """The GPUs in groups of those that work together; what is left over stays idle."""
    if gpus and len(gpus) < together:
        raise ConfigError(f"--processes {together}: {len(gpus)} GPUs are visible here, one per process; ask for fewer")
    starts = range(0, len(gpus) - together + 1, together)
    return [",".join(gpus[start : start + together]) for start in starts]


def _start(pool: _Pool, environment: dict[str, str]) -> None:
    # Out of reach of Ctrl-C: this process ends the others. They end by themselves when their stdin is closed, so that
    # none outlives this one, however it ends.
    process = subprocess.Popen(
        pool.command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pool.processes[process] = environment
    assert process.stdout is not None
    assert process.stderr is not None
    for pipe, stream in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        threading.Thread(target=_read, args=(pool, pipe, stream), daemon=True).start()


def _read(pool: _Pool, pipe: IO[str], stream: IO[str]) -> None:
    for line in pipe:
        pool.lines.put((line, stream))


def _forward(pool: _Pool, tick: Tick) -> None:
    """Print what the processes say and take note of their events, until they are silent for a moment."""
    with contextlib.suppress(queue.Empty):
        while True:
            line, stream = pool.lines.get(timeout=0.1)
            if not line.startswith(EVENT):
                print(line, end="", file=stream, flush=True)
                continue
            event = json.loads(line.removeprefix(EVENT))
            if event["done"] not in pool.done:
                pool.done.add(event["done"])
                pool.deaths = 0
                tick(len(pool.done), event["total"])


def _look_after(pool: _Pool) -> None:
    """Replace the processes that were killed, and forget those that have ended."""
    for process, environment in list(pool.processes.items()):
        code = process.poll()
        if code is None:
            continue
        del pool.processes[process]
        if not signal_of(code):
            pool.code = pool.code or code
            continue
        pool.deaths += 1
        name = signal.Signals(signal_of(code)).name
        if pool.deaths > _MOST_DEATHS:
            raise SegTransferError(
                f"{pool.deaths} processes in a row were killed ({name}) and none finished an item; see what kills them "
                "(memory, most often), and run the same command again"
            )
        complain(f"a process was killed ({name}); another takes its place")
        _start(pool, environment)


def _end(pool: _Pool) -> None:
    for process in pool.processes:
        process.terminate()
    for process in pool.processes:
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
