"""The engine that works in processes of its own on this machine: one per visible GPU, one where there is none.

Every process goes through all items; leases keep them apart, and the item of a killed process is taken over by its
successor. What they print is passed on; what failed in any of them ends the command.
"""

from __future__ import annotations

import json
import locale
import logging
import math
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from seg_transfer.engines.job import TRUSTED, Job
from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.progress import Tick, progress_of
from seg_transfer.stages.failures import raise_if_failed
from seg_transfer.store.lease import MAX_CRASHES, SESSION, failures_of_session, remove_expired
from seg_transfer.store.session import ATTACHED, EVENT, WORKER
from seg_transfer.training.launch import launch_command, signal_of

_logger = logging.getLogger(__name__)
# Seconds that a process has to exit by itself when the command is interrupted.
_SECONDS_TO_EXIT = 20.0
_CHUNK = 1 << 16
# In a row, without a finished item: more than one item alone can cause.
_MAX_CRASHES = 2 * MAX_CRASHES


@dataclass
class _Pool:
    """``partial_lines``: of every pipe, the start of a line that is not complete yet; the selector has the stream that
    its lines go to. ``done``: labels of finished items. ``crashes``: since the last item was finished.
    """

    command: Sequence[str]
    tick: Tick
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    pipes: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    partial_lines: dict[IO[bytes], bytes] = field(default_factory=dict)
    processes: dict[subprocess.Popen[bytes], dict[str, str]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    crashes: int = 0
    code: int = 0


def run(job: Job) -> None:
    """Do a job in processes of its own; raises as `run_in_pool` does."""
    one_device = getattr(job.settings, "device", "auto") not in ("auto", "cuda")
    gpus = [] if one_device else visible_gpus()
    arguments = [*job.command_line(), TRUSTED, *(["--debug"] if job.debug else [])]
    run_in_pool(arguments, job.run.leases, job.stage.command, gpus, job.processes)


def run_in_pool(
    arguments: Sequence[str], leases: Path, title: str, gpus: Sequence[str] = (), together: int = 1
) -> None:
    """Run a command in processes of its own and wait for them.

    A process that is killed is replaced. An item during which three were killed is given up, and reported.

    Args:
        arguments: The command line for one process.
        leases: Where the leases of its run folder lie.
        title: Of its progress.
        gpus: Each has a process of its own; without any there is one process.
        together: So many processes work on one item together, each on a GPU of its own.

    Raises:
        ConfigError: There are fewer GPUs than processes that work together.
        IncompleteError: Items failed; the reasons were logged.
        SegTransferError: Processes were killed before they began with any item.
        SystemExit: A process ended for a reason that it has logged, with the exit code of that.
    """
    shares = _shares(gpus, together)
    number = max(len(shares), 1)
    threads = _threads(number * together)
    with progress_of(title) as tick:
        pool = _Pool(launch_command(arguments, together), tick)
        try:
            for index in range(number):
                device = {"CUDA_VISIBLE_DEVICES": shares[index]} if shares else {}
                own = {SESSION: pool.session, ATTACHED: "1", WORKER: f"{index}/{number}"}
                _start(pool, {**threads, **os.environ, **device, **own})
            while pool.processes:
                _forward(pool)
                _restart_crashed(pool)
        finally:
            _stop(pool)
    failed = failures_of_session(leases, pool.session)
    remove_expired(leases)
    raise_if_failed({what: why for what, why, _ in failed}, {code for _, _, code in failed})
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


def available_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The CPU cores that this process may use: those it is bound to, or fewer where its container has a quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = map(int, quota.read_text().split())
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores
    return min(cores, max(1, math.ceil(share / period)))


def _threads(processes: int) -> dict[str, str]:
    """The variable that keeps several processes from using all cores each; --threads and the user's own value win."""
    return {"OMP_NUM_THREADS": str(max(1, available_cores() // processes))} if processes > 1 else {}


def _start(pool: _Pool, environment: dict[str, str]) -> None:
    # Out of reach of Ctrl-C: this process ends the others. They end by themselves when their stdin is closed, so that
    # none outlives this one, however it ends.
    process = subprocess.Popen(
        pool.command,
        bufsize=0,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    pool.processes[process] = environment
    for pipe, stream in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        pool.pipes.register(pipe, selectors.EVENT_READ, stream)
        pool.partial_lines[pipe] = b""


def _forward(pool: _Pool, seconds: float = 0.1) -> None:
    """Pass on what the processes print, or wait a moment for it."""
    for key, _ in pool.pipes.select(seconds):
        if not _read(pool, key.fileobj, key.data):
            pool.pipes.unregister(key.fileobj)  # closed at the other end


def _read(pool: _Pool, pipe: Any, stream: IO[str]) -> bool:
    """Pass on the complete lines that a pipe holds; False where it holds nothing."""
    try:
        chunk = os.read(pipe.fileno(), _CHUNK)
    except BlockingIOError:
        return False
    if not chunk:
        return False
    *lines, pool.partial_lines[pipe] = (pool.partial_lines[pipe] + chunk).split(b"\n")
    for line in lines:
        _pass_on(pool, line, stream)
    return True


def _pass_on(pool: _Pool, raw: bytes, stream: IO[str]) -> None:
    """Print a line of a process, or process the event that it holds."""
    line = raw.decode(locale.getencoding(), "backslashreplace")
    if not line.startswith(EVENT):
        print(line, file=stream, flush=True)
        return
    event = json.loads(line.removeprefix(EVENT))
    if event["done"] not in pool.done:
        pool.done.add(event["done"])
        pool.crashes = 0
        pool.tick(len(pool.done), event["total"])


def _drain(pool: _Pool, process: subprocess.Popen[bytes]) -> None:
    """Pass on what a process that has ended left in its pipes, its last line too where that lacks a line end.

    Its own children may hold the pipes open: nothing is waited for.
    """
    for pipe, stream in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        assert pipe is not None
        while _read(pool, pipe, stream):
            pass
        rest = pool.partial_lines.pop(pipe)
        if rest and not rest.startswith(EVENT.encode()):
            _pass_on(pool, rest, stream)
        if pipe in pool.pipes.get_map():
            pool.pipes.unregister(pipe)
        pipe.close()
    assert process.stdin is not None
    process.stdin.close()


def _restart_crashed(pool: _Pool) -> None:
    """Replace the processes that were killed, and drop those that have ended."""
    for process, environment in list(pool.processes.items()):
        code = process.poll()
        if code is None:
            continue
        _drain(pool, process)
        del pool.processes[process]
        if not signal_of(code):
            pool.code = pool.code or code
            continue
        pool.crashes += 1
        name = signal.Signals(signal_of(code)).name
        if pool.crashes > _MAX_CRASHES:
            raise SegTransferError(
                f"{pool.crashes} processes in a row were killed ({name}) and none finished an item; find what kills "
                "them (memory, most often), and run the same command again"
            )
        _logger.warning("a process was killed (%s); another takes its place", name)
        _start(pool, environment)


def _stop(pool: _Pool) -> None:
    """Stop what still runs when the command is interrupted, and pass on what it printed last."""
    for process in pool.processes:
        process.terminate()
    until = time.monotonic() + _SECONDS_TO_EXIT
    try:
        while any(process.poll() is None for process in pool.processes) and time.monotonic() < until:
            _forward(pool)
        for process in pool.processes:
            process.kill()
            process.wait()
            _drain(pool, process)
    finally:
        for process in pool.processes:
            process.kill()
        pool.pipes.close()
