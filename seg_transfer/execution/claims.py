"""Going through the items of a stage beside other processes that do the same: each item is one process's at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from seg_transfer.errors import SegTransferError
from seg_transfer.execution import session
from seg_transfer.execution.messages import complain
from seg_transfer.execution.run import Failures
from seg_transfer.store.lease import MOST_DEATHS, Lease, holder_of, leased
from seg_transfer.training.processes import is_main_process, shared

Item = TypeVar("Item")
Held = Callable[[], bool]

_SECONDS_BETWEEN_LOOKS = 0.5


class PartsFailedError(SegTransferError):
    """Parts of an item failed, and the others are kept; ``parts``: what failed and why."""

    def __init__(self, parts: Mapping[str, SegTransferError]) -> None:
        super().__init__("; ".join(map(str, parts.values())))
        self.parts = dict(parts)


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

    Args:
        items: Of the stage, finished ones too: the work for these is to see that they are.
        work: Takes an item.
        label: How it is written in messages.
        place: Where its lease lies.

    Raises:
        IncompleteError: At the end, when items failed. Each reason was said once, in one line.
    """
    failures = Failures(complain)
    ordered = _rotated(items)
    for item, lease in _claimed(ordered, place):
        failed = _done(item, work, label, lease)
        failures.extend(failed)
        if lease is not None and failed:
            lease.fail([(what, str(error), error.exit_code) for what, error in failed.items()])
        session.announce(done=label(item), total=len(ordered))
    failures.end()


def _done(
    item: Item, work: Callable[[Item, Held], None], label: Callable[[Item], str], lease: Lease | None
) -> dict[str, SegTransferError]:
    """Do the work for one item; returns what failed of it."""
    try:
        if lease is not None and lease.holder.deaths >= MOST_DEATHS:
            raise SegTransferError(
                f"{lease.holder.deaths} processes died while they worked on it; see what killed them (memory, most "
                "often), and run the same command again"
            )
        work(item, lease.held if lease is not None else lambda: True)
    except PartsFailedError as error:
        return error.parts
    except SegTransferError as error:
        return {label(item): error}
    return {}


def _claimed(items: Sequence[Item], place: Callable[[Item], Path]) -> Iterator[tuple[Item, Lease | None]]:
    """The items, each while its lease is held; under torchrun the main process holds it for all."""
    if not is_main_process():
        while (index := shared(None)) is not None:
            yield items[index], None
        return
    waiting = list(range(len(items)))
    while waiting:
        put_off = []
        for index in waiting:
            with leased(place(items[index]), session.session()) as lease:
                if lease is not None:
                    shared(index)
                    yield items[index], lease
                else:
                    put_off.append(index)
        put_off = [index for index in put_off if not _has_failed(place(items[index]))]
        if len(put_off) == len(waiting):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        waiting = put_off
    shared(None)


def _has_failed(place: Path) -> bool:
    holder, own = holder_of(place), session.session()
    return bool(own and holder and holder.session == own and holder.failed)


def _rotated(items: Sequence[Item]) -> list[Item]:
    number, of = session.worker()
    start = number * len(items) // of
    return [*items[start:], *items[:start]]
