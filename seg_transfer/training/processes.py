"""The processes of one training: torchrun starts several, and each computes its share of every batch.

They exchange tensors through the process group, which aborts a process that waits too long for another one, and text
through torchrun's key-value store, in which a process can wait as long as necessary. Processes therefore wait in the
store for anything that may take long, before they use the group.
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

# Seconds that a process waits for the others in one operation of the group before it gives up.
GROUP_SECONDS = float(os.environ.get("SEG_TRANSFER_GROUP_SECONDS", "1800"))
# Seconds that a failed process waits for the others to report. A process that has not reported by then never will: it
# waits in an operation of the group for the process that failed.
REPORT_SECONDS = 10.0
_POLL_SECONDS = 0.05

# All processes number their barriers in the same order. A process that misses one has failed and reaches no later one.
_barriers = count()
_store: Store | None = None


class BrokenGroupError(Exception):
    """The processes cannot continue together: this one failed on its part of an item while others wait in the group.

    Attributes:
        first: Whether this process failed first. Later failures of others may be a consequence.
    """

    def __init__(self, *, first: bool) -> None:
        super().__init__("the processes of this training cannot continue together")
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
    _barrier(_store, rank, size)
    distributed.init_process_group(
        "nccl" if on_cuda else "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=GROUP_SECONDS)
    )
    atexit.register(_leave_group)


def _leave_group() -> None:
    """End gloo's threads before Python exits: a thread that releases a tensor later would abort the process.

    They end with the last reference to the group, and a trained network holds such a reference.
    """
    gc.collect()
    distributed.destroy_process_group()


def is_main_process() -> bool:
    """Return whether this is the only process that writes files and prints."""
    return rank_and_size()[0] == 0


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process among those that train together, and their number."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def in_main_process(work: Callable[[], None]) -> None:
    """Run `work` in the main process only, while the others wait, however long it takes.

    A failure is raised in the main process alone; torchrun then stops the others.
    """
    if is_main_process():
        work()
    broadcast_from_main(None)


def broadcast_from_main(value: int | None) -> int | None:
    """Return the main process's `value` in every process, however long the main process takes to get here."""
    if _store is None:
        return value
    key = f"broadcast {next(_barriers)}"
    if is_main_process():
        _store.set(key, json.dumps(value))
    received: int | None = json.loads(_read(_store, key))
    return received


def gather_in_main(report: str, *, failed: bool, broken: bool = False) -> list[str]:
    """Collect a report from every process in the main process, which waits for the others.

    Args:
        report: Report of this process.
        failed: Whether its part of the work failed, so that others may wait for it in the group forever.
        broken: Whether the failure left the group unusable, such as a failure in an operation of the group.

    Returns:
        In the main process, all reports, with those of failed processes in the order of the failures. In any other
        process, its own report alone.

    Raises:
        BrokenGroupError: This process failed, and the others did not report within `REPORT_SECONDS`, or one of them
            says that the group is broken.
    """
    if _store is None:
        return [report]
    (rank, size), barrier = rank_and_size(), next(_barriers)
    order = _store.add("failures", 1) if failed else 0
    _store.set(f"report {barrier} {rank}", json.dumps([order, broken, report]))
    keys = [f"report {barrier} {other}" for other in range(size)]
    if failed:
        is_stuck = not _appear_within(_store, keys, REPORT_SECONDS)
        reports = [json.loads(_read(_store, key)) for key in keys if _store.check([key])]
        if is_stuck or any(is_broken for _, is_broken, _ in reports):
            raise BrokenGroupError(first=order == min(other for other, _, _ in reports if other))
    if rank:
        return [report]
    return [text for _, _, text in sorted(json.loads(_read(_store, key)) for key in keys)]


def wait_for_all() -> None:
    """Wait until all processes get here, however long it takes, so that none waits in the next operation."""
    if _store is not None:
        _barrier(_store, *rank_and_size())


def sum_over_processes(counts: Tensor) -> Tensor:
    """Return the sum of `counts` over all processes, in every process, however late one of them gets here."""
    if _store is None:
        return counts
    wait_for_all()
    on_device = counts.cuda() if torch.cuda.is_available() else counts.clone()
    distributed.all_reduce(on_device)
    return on_device.cpu()


def with_buffers_of_main(network: nn.Module) -> nn.Module:
    """Copy the main process's running statistics into the network of every process that trained it; returns it."""
    if distributed.is_initialized():
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
    return network


def _barrier(store: Store, rank: int, size: int) -> None:
    barrier = next(_barriers)
    store.set(f"barrier {barrier} {rank}", "")
    for other in range(size):
        _read(store, f"barrier {barrier} {other}")


def _read(store: Store, key: str) -> str:
    """Return the value of a key, after waiting until a process sets it."""
    while not store.check([key]):
        time.sleep(_POLL_SECONDS)
    return str(store.get(key), "utf-8")


def _appear_within(store: Store, keys: Iterable[str], seconds: float) -> bool:
    missing, deadline = list(keys), time.monotonic() + seconds
    while missing and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        missing = [key for key in missing if not store.check([key])]
    return not missing
