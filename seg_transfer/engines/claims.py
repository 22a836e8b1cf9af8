"""Going through the items of a stage beside other processes that do the same: each item is one process's at a time."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from seg_transfer.errors import ComputationError, SegTransferError, failure_with_code
from seg_transfer.messages import complain, complain_anyway
from seg_transfer.store import session
from seg_transfer.store.lease import MOST_DEATHS, Failure, Lease, failed_in, forget, leased, leave_word
from seg_transfer.study.run import Failures, failures_of
from seg_transfer.training.launch import GO_ON
from seg_transfer.training.processes import BrokenGroupError, is_main_process, rank_and_size, tell_all, tell_main

Item = TypeVar("Item")
Held = Callable[[], bool]

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_BE_ENDED = 60.0


def for_each_claimed(
    items: Sequence[Item],
    work: Callable[[Item, Held], None],
    label: Callable[[Item], str],
    place: Callable[[Item], Path],
) -> None:
    """Do the work for every item whose lease this process gets, whatever happens to the others.

    An item that another process works on is put off, and looked at again when all others are done: it is finished then,
    or its process is gone. Work that takes long asks the function it is given, before it writes, whether the item is
    still this process's.

    Processes that train together work on one item together. One that fails while the others wait for it in the group
    leaves word of the reason and ends; that ends them all, and `training.launch` starts others for what is left.

    Args:
        items: Of the stage, finished ones too: the work for these is to see that they are.
        work: Takes an item.
        label: How it is written in messages.
        place: Where its lease lies.

    Raises:
        IncompleteError: At the end, when items failed. Each reason was said once, in one line.
        OSError: The machine failed, such as a full disk.
    """
    failures = Failures(complain)
    ordered = _rotated(items)
    for item, lease in _claimed(ordered, place):
        failed = _agreed(partial(_done, item, work, label(item), lease), label(item), place(item))
        failures.extend(failed)
        if lease is not None and failed:
            lease.fail(_words(failed))
        session.announce(done=label(item), total=len(ordered))
    if is_main_process() and not session.attached():
        _sum_up(map(place, ordered), failures)
    failures.end()


def _agreed(done: Callable[[], dict[str, SegTransferError]], label: str, place: Path) -> dict[str, SegTransferError]:
    """Do the work for one item with the processes of this training; returns what failed of it in any of them.

    Where they cannot go on together, this process ends.
    """
    try:
        failed = done()
    except OSError as error:
        if rank_and_size()[1] == 1:
            raise
        complain_anyway(f"{label}: {error}")
        _exit(SegTransferError.exit_code)
    try:
        broken = any(isinstance(error, ComputationError) for error in failed.values())
        told = tell_main(json.dumps(_words(failed)), failed=bool(failed), broken=broken)
    except BrokenGroupError as group:
        _leave(place, failed, first=group.first)
    return _errors(failure for words in reversed(told) for failure in json.loads(words))


def _done(
    item: Item, work: Callable[[Item, Held], None], label: str, lease: Lease | None
) -> dict[str, SegTransferError]:
    """Do the work for one item; returns what failed of it."""
    if lease is not None and lease.holder.deaths >= MOST_DEATHS:
        reason = (
            f"{lease.holder.deaths} processes died while they worked on it; see what killed them (memory, most often), "
            "and run the same command again"
        )
        return {label: SegTransferError(reason)}
    return failures_of(lambda: work(item, lease.held if lease is not None else lambda: True), label)


def _words(failed: Mapping[str, SegTransferError]) -> list[Failure]:
    return [(what, str(error), error.exit_code) for what, error in failed.items()]


def _errors(failures: Iterator[Failure]) -> dict[str, SegTransferError]:
    return {what: failure_with_code(reason, code) for what, reason, code in failures}


def _leave(place: Path, failed: Mapping[str, SegTransferError], *, first: bool) -> NoReturn:
    """End this process, with which torchrun ends the others; the first that failed says why."""
    if not first:
        time.sleep(_SECONDS_TO_BE_ENDED)
    for what, error in failed.items():
        complain_anyway(f"{what}: {error}")
    can_go_on = leave_word(place, _words(failed)) and session.session() != ""
    _exit(GO_ON if can_go_on else next(iter(failed.values())).exit_code)


def _exit(code: int) -> NoReturn:
    """End one of several processes at once: what Python does at its end would wait for the others."""
    sys.stdout.flush()
    os._exit(code)


def _sum_up(places: Iterator[Path], failures: Failures) -> None:
    """Take what failed in processes of this session that could not go on; nobody else asks for their word."""
    for place in places:
        failures.extend(_errors(iter(failed_in(place, session.session()))), said=True)
        forget(place, session.session())


def _claimed(items: Sequence[Item], place: Callable[[Item], Path]) -> Iterator[tuple[Item, Lease | None]]:
    """The items, each while its lease is held; under torchrun the main process holds it for all."""
    if not is_main_process():
        while (index := tell_all(None)) is not None:
            yield items[index], None
        return
    waiting = list(range(len(items)))
    while waiting:
        put_off = []
        for index in waiting:
            with leased(place(items[index]), session.session()) as lease:
                if lease is not None:
                    tell_all(index)
                    yield items[index], lease
                else:
                    put_off.append(index)
        put_off = [index for index in put_off if not failed_in(place(items[index]), session.session())]
        if len(put_off) == len(waiting):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        waiting = put_off
    tell_all(None)


def _rotated(items: Sequence[Item]) -> list[Item]:
    number, of = session.worker()
    start = number * len(items) // of
    return [*items[start:], *items[:start]]
