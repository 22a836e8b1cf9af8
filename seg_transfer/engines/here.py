"""The engine that runs in this process; other processes may work on the same run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from seg_transfer.engines.claims import for_each_claimed
from seg_transfer.engines.job import Job
from seg_transfer.errors import ConfigError
from seg_transfer.stages.base import Item, Stage
from seg_transfer.store.session import is_worker
from seg_transfer.study.run import Run


def run(job: Job) -> None:
    """Run a job in this process.

    Raises:
        ConfigError: The job asks for several processes per item.
        IncompleteError: Items failed; the reasons were logged.
    """
    if job.processes > 1 and not is_worker():
        raise ConfigError(
            f"--processes {job.processes}: --engine here uses one process only; leave out one of the two options"
        )
    with limit_threads(job.threads):
        run_items(job.stage, job.run, job.items, job.settings)


def run_items(
    stage: Stage, run: Run, items: Sequence[Item], settings: Any, done: Callable[[Item], None] = lambda item: None
) -> None:
    """Do these items of a stage; finished ones are skipped.

    Args:
        stage: One of `STAGES`.
        run: The study.
        items: Items of the stage, which may be finished.
        settings: An instance of the stage's `settings_type`.
        done: Called with every item that did not fail, as soon as it is finished.

    Raises:
        IncompleteError: Items failed; the reasons were logged.
    """
    work = stage.start(run, items, settings)
    for_each_claimed(items, work, stage.label, partial(stage.lease, run), done)


@contextmanager
def limit_threads(number: int) -> Iterator[None]:
    """Limit the threads of torch and of the BLAS library for the duration of a block; 0 changes nothing."""
    if not number:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(number)
    with threadpool_limits(number):
        yield
