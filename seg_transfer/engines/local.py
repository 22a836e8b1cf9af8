"""The engine that runs in separate processes on this machine: one per visible GPU, or one if there is no GPU
and the job does not name more.

Every process goes through all items. Leases prevent two processes from working on the same item, and the successor of a
killed process takes over its item. The output of the processes is forwarded; if an item failed in any of them, the
command fails at the end.
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
# Seconds that a process has to exit on its own when the command is interrupted.
_SECONDS_TO_EXIT = 20.0
_CHUNK = 1 << 16
# Crashes in a row, without a finished item. A single item cannot cause this many.
_MAX_CRASHES = 2 * MAX_CRASHES


@dataclass
class _Pool:
    """The running processes and their output.

    Attributes:
        command: The command line of every process.
        tick: Shows progress.
        session: Session of the processes.
        pipes: Their output pipes; the data of each is the stream that its lines go to.
        partial_lines: Pipe -> the start of a line that is not complete yet.
        processes: Process -> its environment.
        done: Labels of finished items.
        crashes: Number of crashes since the last item was finished.
        code: The first exit code other than 0.
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
    """Run a job in separate processes; raises the same errors as `run_in_pool`."""
    one_device = getattr(job.settings, "device", "auto") not in ("auto", "cuda")
    gpus = [] if one_device else visible_gpus()
    arguments = [*job.command_line(), TRUSTED, *(["--debug"] if job.debug else [])]
    run_in_pool(
        arguments, job.run.leases, job.stage.command, gpus, job.processes, without_gpu=job.processes_without_gpu
    )


def run_in_pool(
    arguments: Sequence[str],
    leases: Path,
    title: str,
    gpus: Sequence[str] = (),
    group_size: int = 1,
    *,
    without_gpu: int = 1,
) -> None:
    """Run a command in separate processes and wait for them.

    A process that is killed is replaced. An item on which three processes were killed is given up and reported.

    Args:
        arguments: The command line for one process.
        leases: Folder of the leases in its run folder.
        title: Title of the progress display.
        gpus: GPUs, each used by one process.
        group_size: Number of processes that work on one item together, each on its own GPU.
        without_gpu: Number of processes, or of such groups, where there are no GPUs.

    Raises:
        ConfigError: There are fewer GPUs than processes that work together.
        IncompleteError: Items failed; the reasons were logged.
        SegTransferError: Processes were killed repeatedly without finishing an item.
        SystemExit: A process failed for a reason that it has logged; carries its exit code.
    """
    gpu_groups = _gpu_groups(gpus, group_size)
    number = len(gpu_groups) or without_gpu
    threads = _threads(number * group_size)
    with progress_of(title) as tick:
        pool = _Pool(launch_command(arguments, group_size), tick)
        try:
            for index in range(number):
                device = {"CUDA_VISIBLE_DEVICES": gpu_groups[index]} if gpu_groups else {}
                worker = {SESSION: pool.session, ATTACHED: "1", WORKER: f"{index}/{number}"}
                _start(pool, {**threads, **os.environ, **device, **worker})
            while pool.processes:
                _forward(pool)
                _restart_crashed(pool)
        finally:
            _stop(pool)
    failures = failures_of_session(leases, pool.session)
    remove_expired(leases)
    raise_if_failed({label: reason for label, reason, _ in failures}, {code for _, _, code in failures})
    if pool.code:
        raise SystemExit(pool.code)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES, without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device for device in named.replace(" ", "").split(",") if device and device != "-1"]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []


def _gpu_groups(gpus: Sequence[str], group_size: int) -> list[str]:
    """Divide the GPUs into groups that work together; GPUs left over stay idle."""
    if gpus and len(gpus) < group_size:
        raise ConfigError(
            f"--processes {group_size}: only {len(gpus)} GPUs are visible, and each process needs one; use fewer"
        )
    starts = range(0, len(gpus) - group_size + 1, group_size)
    return [",".join(gpus[start : start + group_size]) for start in starts]


def available_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of CPU cores that this process may use, given its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = map(int, quota.read_text().split())
    except (OSError, ValueError):  # there is no such file, or it says "max": no quota
        return cores
    return min(cores, max(1, math.ceil(share / period)))


def _threads(processes: int) -> dict[str, str]:
    """Return a variable that divides the cores among the processes; --threads and the user's value take precedence."""
    return {"OMP_NUM_THREADS": str(max(1, available_cores() // processes))} if processes > 1 else {}


def _start(pool: _Pool, environment: dict[str, str]) -> None:
    # A new session keeps Ctrl-C away from the process, which this process stops instead. It also exits when its stdin
    # is closed, so it never outlives this process.
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
    """Forward the output of the processes, or wait a moment for output."""
    for key, _ in pool.pipes.select(seconds):
        if not _read(pool, key.fileobj, key.data):
            pool.pipes.unregister(key.fileobj)  # closed at the other end


def _read(pool: _Pool, pipe: Any, stream: IO[str]) -> bool:
    """Forward the complete lines in a pipe; returns False if the pipe holds nothing."""
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
    """Print a line of a process, or handle the event in it."""
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
    """Forward the rest of the output of a process that has ended, including an incomplete last line.

    This does not wait for more output, because children of the process may keep the pipes open.
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
    """Replace killed processes, and remove processes that have ended."""
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
                f"{pool.crashes} processes in a row were killed ({name}) and none finished an item; find out what "
                "kills them (most often they run out of memory) and run the same command again"
            )
        _logger.warning("a process was killed (%s); starting another in its place", name)
        _start(pool, environment)


def _stop(pool: _Pool) -> None:
    """Stop the processes that still run when the command is interrupted, and forward their last output."""
    for process in pool.processes:
        process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_EXIT
    try:
        while any(process.poll() is None for process in pool.processes) and time.monotonic() < deadline:
            _forward(pool)
        for process in pool.processes:
            process.kill()
            process.wait()
            _drain(pool, process)
    finally:
        for process in pool.processes:
            process.kill()
        pool.pipes.close()
