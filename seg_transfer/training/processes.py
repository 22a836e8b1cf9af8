"""The processes of one training: torchrun starts several, and each takes its share of every batch."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable

import torch
from torch import distributed


def start_distributed() -> None:
    """Join the process group when torchrun started this process: NCCL on CUDA, gloo on the CPU."""
    if "LOCAL_RANK" not in os.environ or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    """End the threads of gloo before Python ends: one that then lets go of a tensor would abort the process.

    They end with the last reference to the group, and a trained network holds one.
    """
    gc.collect()
    distributed.destroy_process_group()


def is_main_process() -> bool:
    """True in the one process that writes files and prints."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def in_main_process(work: Callable[[], None]) -> None:
    """Do what must be done once, while the other processes wait; a failure is raised in the main process alone."""
    try:
        if is_main_process():
            work()
    finally:
        if distributed.is_initialized():
            distributed.barrier()


def shared(value: int | None) -> int | None:
    """The main process's value, in every process."""
    if not distributed.is_initialized():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]
