"""Runs tasks on an existing Ray cluster. Ray schedules them; the files in the run folder say what is finished.

All nodes share the file system with this process and have the same packages. An item's lease counts the processes that
crashed while they worked on it, on any node, and records the reasons of failures.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seg_transfer.console import console_logging
from seg_transfer.errors import ConfigError, IncompleteError, SegTransferError, failure_with_code, printable
from seg_transfer.progress import Tick, progress_of
from seg_transfer.stages.failures import Failures
from seg_transfer.store.lease import MAX_CRASHES, SESSION, failures_of_item, failures_of_session, remove_expired
from seg_transfer.store.session import ATTACHED, EVENT

_POLL_SECONDS = 0.5
# Seconds that the cluster has to respond, and that tasks have to exit when the command is interrupted.
_SECONDS_TO_ANSWER = 20.0


@dataclass(frozen=True)
class Task:
    """A Ray task, which calls ``work(**options)``.

    Attributes:
        title: Name of the task in Ray's lists.
        work: The function that the task calls.
        options: Its keyword arguments.
        leases: Label of each item of the task -> the path of the item's lease.
    """

    title: str
    work: Callable[..., None]
    options: Mapping[str, Any]
    leases: Mapping[str, Path]


@dataclass
class _Driver:
    """The state of this process; ``mailbox`` receives the output of tasks, ``broken`` maps lost tasks to reasons."""

    ray: Any
    mailbox: Any
    leases: Path
    resources: Mapping[str, int]
    tick: Tick
    items: frozenset[str]
    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    printed: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failures: Failures = field(default_factory=Failures)
    failed: set[str] = field(default_factory=set)
    broken: dict[str, SegTransferError] = field(default_factory=dict)


def run_on_ray(
    missing: Callable[[], list[Task]], leases: Path, title: str, *, n_cpus: int, n_processes: int = 1
) -> None:
    """Run the missing items on the cluster named by RAY_ADDRESS, or else on this machine's cluster.

    Args:
        missing: Returns the tasks that remain, judged by the files at the time of the call.
        leases: Folder of the leases in the run folder.
        title: Title of the progress display.
        n_cpus: Number of CPUs per process; on a cluster with GPUs, each process also gets a GPU.
        n_processes: Number of processes per task, all on one node.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or no node is large enough for a task.
        IncompleteError: Items failed; the reasons were logged.
    """
    tasks = missing()
    if not tasks:
        return
    with _connected() as ray, progress_of(title) as tick:
        gpus = {"num_gpus": n_processes} if ray.cluster_resources().get("GPU") else {}
        resources = {"num_cpus": n_cpus * n_processes, **gpus}
        _check_capacity(ray, resources)
        driver = _Driver(ray, _mailbox(ray), leases, resources, tick, _items(tasks))
        tasks = _run_rounds(driver, tasks, missing)
    _record(driver, {label: _loss_reason(driver, task) for task in tasks for label in task.leases})
    remove_expired(leases)
    driver.failures.raise_if_any()


def _check_capacity(ray: Any, resources: Mapping[str, int]) -> None:
    """Raise ConfigError if no node is large enough for a task; Ray would wait for one forever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = resources["num_cpus"], resources.get("num_gpus", 0)
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        raise ConfigError(
            f"--engine ray: a task needs {cpus} CPUs and {gpus} GPUs on one node, and no node of the cluster has them; "
            "use fewer --threads or --processes, or add a larger node"
        )


def _run_rounds(driver: _Driver, tasks: list[Task], missing: Callable[[], list[Task]]) -> list[Task]:
    """Submit missing items until none are left or a round makes no progress; returns unfinished tasks without failures.

    Only the files decide whether an item is finished: a task that succeeded does not prove that its items are done, and
    a lost task does not prove that they are not.
    """
    while tasks:
        before = _items(tasks)
        _run_round(driver, tasks)
        tasks = [task for task in (_without_failed(driver, task) for task in missing()) if task.leases]
        if not _items(tasks) < before:
            break
    return tasks


def _run_round(driver: _Driver, tasks: list[Task]) -> None:
    """Run the tasks on Ray, and print their output."""
    work = driver.ray.remote(_work)
    # As many retries as one item may crash; the attempt after that reports the item and does the others.
    options = {**driver.resources, "max_retries": MAX_CRASHES, "retry_exceptions": False}
    waiting = {
        work.options(name=task.title, **options).remote(task, driver.session, driver.mailbox): task for task in tasks
    }
    try:
        while waiting:
            ended, _ = driver.ray.wait(list(waiting), timeout=_POLL_SECONDS)
            _forward(driver)
            for reference in ended:
                _collect_result(driver, waiting.pop(reference), reference)
    except BaseException:
        for reference in waiting:
            driver.ray.cancel(reference)
        driver.ray.wait(list(waiting), num_returns=len(waiting), timeout=_SECONDS_TO_ANSWER)
        raise


def _collect_result(driver: _Driver, task: Task, reference: Any) -> None:
    """Record the failures of a task that ended; its other items may still succeed."""
    failed = failures_of_session(driver.leases, driver.session)
    _record(driver, {what: failure_with_code(reason, code) for what, reason, code in failed})
    try:
        driver.broken.pop(task.title, None)
        if (error := driver.ray.get(reference)) is not None:
            driver.broken[task.title] = failure_with_code(*error)
    except driver.ray.exceptions.RayError as lost:
        cause = getattr(lost, "cause", None) or lost
        driver.broken[task.title] = SegTransferError(f"{type(cause).__name__}: {' '.join(str(cause).split())}")


def _record(driver: _Driver, errors: Mapping[str, SegTransferError]) -> None:
    new = {label: error for label, error in errors.items() if label not in driver.failed}
    driver.failed |= new.keys()
    driver.failures.add(new)


def _without_failed(driver: _Driver, task: Task) -> Task:
    """Return the task without the items that failed in this session."""
    remaining = {label: path for label, path in task.leases.items() if not failures_of_item(path, driver.session)}
    return replace(task, leases=remaining)


def _loss_reason(driver: _Driver, task: Task) -> SegTransferError:
    return driver.broken.get(task.title) or SegTransferError(
        "its task ended without a valid result file; make sure that all nodes share the file system of this run folder"
    )


def _items(tasks: Sequence[Task]) -> frozenset[str]:
    return frozenset(label for task in tasks for label in task.leases)


def _forward(driver: _Driver) -> None:
    """Print the output lines of the tasks, each once, and handle their events."""
    # If the mailbox is lost, only output is lost.
    with contextlib.suppress(driver.ray.exceptions.RayError):
        for line in driver.mailbox.get_nowait_batch(driver.mailbox.qsize()):
            if not line.startswith(EVENT):
                if line not in driver.printed:
                    print(printable(line), flush=True)
                driver.printed.add(line)
            elif (label := json.loads(line.removeprefix(EVENT)).get("done")) in driver.items:
                driver.done.add(label)
                driver.tick(len(driver.done), len(driver.items))


def _work(task: Task, session: str, mailbox: Any) -> tuple[str, int] | None:
    """Run a task on a node; returns the reason and exit code of an error that affects all of its items."""
    import torch
    from threadpoolctl import threadpool_limits

    os.environ |= {SESSION: session, ATTACHED: "1"}
    # Ray sets this variable to the CPUs of the task, but libraries that were loaded for an earlier task do not see it.
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(_Lines(mailbox)), console_logging(), threadpool_limits(threads):
        try:
            task.work(**task.options)
        except IncompleteError:
            return None  # the leases hold the reasons
        except SegTransferError as error:
            return str(error), error.exit_code
    return None


class _Lines(io.TextIOBase):
    """A text stream that sends every complete line to the mailbox."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox, self._rest = mailbox, ""

    def write(self, text: str) -> int:
        """Write text, as to any stream."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._mailbox.put(line)
        return len(text)


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """Connect to a cluster, and yield the ray module."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray prints paragraphs to stdout about every worker that dies, even with log forwarding turned off.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--engine ray: Ray is not installed; run pip install 'seg_transfer[ray]' on all nodes of the cluster"
        ) from error
    address = os.environ.get("RAY_ADDRESS", "this machine")
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal() and "/" not in host:
            # Ray itself waits for minutes before it reports an address that does not respond.
            socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--engine ray: no cluster on {address} ({str(error).splitlines()[0]}); "
            "start one (ray start --head), or set RAY_ADDRESS=HOST:PORT"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _mailbox(ray: Any) -> Any:
    """Create a queue of lines on this machine, which survives the loss of any other node."""
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here})
