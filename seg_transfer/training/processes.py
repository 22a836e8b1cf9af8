"""The processes of one training: torchrun starts several, and each takes its share of every batch.

They exchange tensors over the process group, which ends a process that waits too long for another, and words over the
store that torchrun gives them, which nobody waits for in vain: what may last long is awaited there.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import count

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

# Seconds that a process may wait for the others in one operation of the group before it gives them up.
GROUP_SECONDS = float(os.environ.get("SEG_TRANSFER_GROUP_SECONDS", "1800"))
# Seconds after which processes that have not told how their part of an item ended will never do so: they wait in an
# operation of the group for the one that failed.
SECONDS_TO_TELL = 10.0
_SECONDS_BETWEEN_LOOKS = 0.05

# All processes come to every meeting in the same order: one that misses a meeting has failed, and comes to none again.
_meetings = count()
_store: Store | None = None


class BrokenGroupError(Exception):
    """The processes cannot go on together: this one's part of an item failed while others wait for it in the group.

    ``first``: whether it failed first; where others failed too, that may be for want of this one.
    """

    def __init__(self, *, first: bool) -> None:
        super().__init__("the processes of this training cannot go on together")
        self.first = first


def start_distributed() -> None:
    """Join the process group when torchrun started this process: NCCL on CUDA, gloo on the CPU."""
    global _store
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return
    on_cuda = torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://"))
    _store = PrefixStore("seg_transfer", store)
    _come_together(_store, rank, size)
    distributed.init_process_group(
        "nccl" if on_cuda else "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=GROUP_SECONDS)
    )
    atexit.register(_leave)


def _leave() -> None:
    """End the threads of gloo before Python ends: one that then lets go of a tensor would abort the process.

    They end with the last reference to the group, and a trained network holds one.
    """
    gc.collect()
    distributed.destroy_process_group()


def is_main_process() -> bool:
    """True in the one process that writes files and prints."""
    return rank_and_size()[0] == 0


def rank_and_size() -> tuple[int, int]:
    """The number of this process among those that train together, and how many they are."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def in_main_process(work: Callable[[], None]) -> None:
    """Do what must be done once, while the other processes wait, however long it takes.

    A failure is raised in the main process alone, with which torchrun ends the others.
    """
    if is_main_process():
        work()
    tell_all(None)


def tell_all(value: int | None) -> int | None:
    """The main process's value, in every process, however long it takes the main process to come here."""
    if _store is None:
        return value
    key = f"told {next(_meetings)}"
    if is_main_process():
        _store.set(key, json.dumps(value))
    told: int | None = json.loads(_read(_store, key))
    return told


def tell_main(words: str, *, failed: bool, broken: bool = False) -> list[str]:
    """What every process has to say, to the main one, which waits for the others; each other one gets its own back.

    Args:
        words: Of this process.
        failed: Whether its part of the work failed, so that others may wait for it where it will never come.
        broken: Whether it failed in a way after which the group cannot be trusted, such as in one of its operations.

    Returns:
        The words, of those that failed in the order in which they did.

    Raises:
        BrokenGroupError: It failed, and the others did not come here within `SECONDS_TO_TELL`, or the group is broken.
    """
    if _store is None:
        return [words]
    (rank, size), meeting = rank_and_size(), next(_meetings)
    order = _store.add("failures", 1) if failed else 0
    _store.set(f"words {meeting} {rank}", json.dumps([order, broken, words]))
    keys = [f"words {meeting} {other}" for other in range(size)]
    if failed:
        stuck = not _are_there(_store, keys, SECONDS_TO_TELL)
        told = [json.loads(_read(_store, key)) for key in keys if _store.check([key])]
        if stuck or any(is_broken for _, is_broken, _ in told):
            raise BrokenGroupError(first=order == min(other for other, _, _ in told if other))
    if rank:
        return [words]
    return [said for _, _, said in sorted(json.loads(_read(_store, key)) for key in keys)]


def meet() -> None:
    """Wait until all processes have come here, however long it takes: what they do next in the group waits for none."""
    if _store is not None:
        _come_together(_store, *rank_and_size())


def summed(counts: Tensor) -> Tensor:
    """The sum over all processes, in each, however much later than others one comes here."""
    if _store is None:
        return counts
    meet()
    on_device = counts.cuda() if torch.cuda.is_available() else counts.clone()
    distributed.all_reduce(on_device)
    return on_device.cpu()


def take_buffers_of_main(network: nn.Module) -> None:
    """Make a network that was trained together the same in all processes, whose running statistics may differ."""
    if distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)


def _come_together(store: Store, rank: int, size: int) -> None:
    meeting = next(_meetings)
    store.set(f"here {meeting} {rank}", "")
    for other in range(size):
        _read(store, f"here {meeting} {other}")


def _read(store: Store, key: str) -> str:
    while not store.check([key]):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return str(store.get(key), "utf-8")


def _are_there(store: Store, keys: Iterable[str], seconds: float) -> bool:
    missing, until = list(keys), time.monotonic() + seconds
    while missing and time.monotonic() < until:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        missing = [key for key in missing if not store.check([key])]
    return not missing
