"""Works through items alongside other processes, such that only one process at a time works on an item."""

from __future__ import annotations

import contextlib
import json
import logging
import operator
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from seg_transfer.console import EVERY_PROCESS
from seg_transfer.engines.rests import Failed, Rests
from seg_transfer.errors import ComputationError, SegTransferError, failure_with_code
from seg_transfer.stages.base import IsHeld, Rest
from seg_transfer.stages.failures import Failures, catch_failures
from seg_transfer.store import session
from seg_transfer.store.lease import (
    MAX_CRASHES,
    Failure,
    Lease,
    acquire,
    clear_failures,
    failures_of_item,
    record_failures,
)
from seg_transfer.training.launch import RESTART_CODE
from seg_transfer.training.processes import (
    BrokenGroupError,
    broadcast_from_main,
    gather_in_main,
    is_main_process,
    rank_and_size,
)

Item = TypeVar("Item")
_logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.5
_SECONDS_BEFORE_EXIT = 60.0


def for_each_claimed(
    items: Sequence[Item],
    work: Callable[[Item, IsHeld], Rest | None],
    label: Callable[[Item], str],
    lease_path: Callable[[Item], Path],
    done: Callable[[Item], None] = lambda item: None,
) -> None:
    """Do the work for every item whose lease this process acquires, even when other items fail.

    An item that another process works on is deferred, and tried again once all other items are done: by then it is
    finished, or its process has ended. Long-running work calls the function that it receives before it writes, to check
    that this process still holds the lease. It may return its rest, which runs in a thread while the next item begins.

    Processes that train together work on one item together. If one of them fails while the others wait for it, it
    records the reason and exits. That stops the whole group, and `training.launch` starts a new one for the rest.

    Args:
        items: The items, including finished ones; the work skips those.
        work: Does the work for an item; also receives a function that returns whether the lease is still held.
        label: Returns the name of an item in messages.
        lease_path: Returns the path of an item's lease.
        done: Called with each item that did not fail, once its work is done.

    Raises:
        IncompleteError: At the end, if items failed. Each reason was logged once, in one line.
        OSError: The machine failed, for example because the disk is full.
    """
    failures, ordered = Failures(), _rotated(items)

    def ended(item: Item, lease: Lease | None, failed: Failed) -> None:
        _record(failed, failures, lease)
        if not failed:
            done(item)
        session.report_event(done=label(item), total=len(ordered))

    with Rests() as rests:
        for item, lease, held in _claimed(ordered, lease_path, rests.wait_for_all):
            wait = rests.wait_for_all if _crashed_before(lease) else rests.wait_for_thread
            wait()
            found = list[Rest]()
            take = found.append if rank_and_size()[1] == 1 else operator.call
            failed = _do_in_group(partial(_do, item, work, label(item), lease, take), label(item), lease_path(item))
            if found:
                rests.start(found.pop(), label(item), held.pop_all(), partial(ended, item, lease))
            else:
                ended(item, lease, failed)
            wait()
    if is_main_process() and not session.is_attached():
        _add_recorded_failures(map(lease_path, ordered), failures)
    failures.raise_if_any()


def _crashed_before(lease: Lease | None) -> bool:
    """Whether a process crashed during the item; it is then done alone, so that another crash blames no other item."""
    return lease is not None and lease.holder.crashes > 0


def _record(failed: Failed, failures: Failures, lease: Lease | None) -> None:
    failures.add(failed)
    if lease is not None and failed:
        lease.record_failures(_plain(failed))


def _do_in_group(
    do: Callable[[], dict[str, SegTransferError]], label: str, lease_path: Path
) -> dict[str, SegTransferError]:
    """Do the work for one item with the other processes of this training; returns the failures of all of them.

    If the group cannot continue, this process exits.
    """
    try:
        failed = do()
    except OSError as error:
        if rank_and_size()[1] == 1:
            raise
        _logger.error("%s: %s", label, error, extra=EVERY_PROCESS)
        _exit(SegTransferError.exit_code)
    try:
        is_broken = any(isinstance(error, ComputationError) for error in failed.values())
        records = gather_in_main(json.dumps(_plain(failed)), failed=bool(failed), broken=is_broken)
    except BrokenGroupError as group:
        _exit_group(lease_path, failed, first=group.first)
    return _errors(failure for record in reversed(records) for failure in json.loads(record))


def _do(
    item: Item,
    work: Callable[[Item, IsHeld], Rest | None],
    label: str,
    lease: Lease | None,
    take: Callable[[Rest], object],
) -> dict[str, SegTransferError]:
    """Do the work for one item, and hand over the rest of it if there is one; returns its failures."""
    if lease is not None and lease.holder.crashes >= MAX_CRASHES:
        reason = (
            f"{lease.holder.crashes} processes crashed while they worked on it; find out why (most often they run "
            "out of memory) and run the same command again"
        )
        return {label: SegTransferError(reason)}

    def do() -> None:
        rest = work(item, lease.is_held if lease is not None else lambda: True)
        if rest is not None:
            take(rest)

    return catch_failures(do, label)


def _plain(failed: Mapping[str, SegTransferError]) -> list[Failure]:
    return [(what, str(error), error.exit_code) for what, error in failed.items()]


def _errors(failures: Iterator[Failure]) -> dict[str, SegTransferError]:
    return {what: failure_with_code(reason, code) for what, reason, code in failures}


def _exit_group(lease_path: Path, failed: Mapping[str, SegTransferError], *, first: bool) -> NoReturn:
    """Exit, whereupon torchrun stops the other processes; the process that failed first logs the reason."""
    if not first:
        time.sleep(_SECONDS_BEFORE_EXIT)
    for what, error in failed.items():
        _logger.error("%s: %s", what, error, extra=EVERY_PROCESS)
    can_continue = record_failures(lease_path, _plain(failed)) and session.session() != ""
    _exit(RESTART_CODE if can_continue else next(iter(failed.values())).exit_code)


def _exit(code: int) -> NoReturn:
    """Exit at once, because Python's regular shutdown would wait for the other processes."""
    sys.stdout.flush()
    os._exit(code)


def _add_recorded_failures(lease_paths: Iterator[Path], failures: Failures) -> None:
    """Add the failures recorded by processes of this session that had to exit, and clear their records."""
    for path in lease_paths:
        failures.add(_errors(iter(failures_of_item(path, session.session()))), log=False)
        clear_failures(path, session.session())


def _claimed(
    items: Sequence[Item], lease_path: Callable[[Item], Path], end_rests: Callable[[], None]
) -> Iterator[tuple[Item, Lease | None, contextlib.ExitStack]]:
    """Yield every item with its lease; under torchrun, the main process holds it for the whole group.

    The stack holds the lease until the next item is asked for, or for as long as `pop_all` keeps it. Other processes
    may wait for leases of items whose rests still run, so these are ended before this process waits for others.
    """
    if not is_main_process():
        while (index := broadcast_from_main(None)) is not None:
            yield items[index], None, contextlib.ExitStack()
        return
    waiting = list(range(len(items)))
    while waiting:
        deferred = []
        for index in waiting:
            with contextlib.ExitStack() as held:
                lease = held.enter_context(acquire(lease_path(items[index]), session.session()))
                if lease is not None:
                    broadcast_from_main(index)
                    yield items[index], lease, held
                else:
                    deferred.append(index)
        end_rests()
        deferred = [index for index in deferred if not failures_of_item(lease_path(items[index]), session.session())]
        if len(deferred) == len(waiting):
            time.sleep(_POLL_SECONDS)
        waiting = deferred
    broadcast_from_main(None)


def _rotated(items: Sequence[Item]) -> list[Item]:
    index, n_workers = session.worker_index_and_count()
    start = index * len(items) // n_workers
    return [*items[start:], *items[:start]]
