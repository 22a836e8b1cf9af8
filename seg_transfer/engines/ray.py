"""The engine that runs on a Ray cluster, with one task for all items that share loaded data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from seg_transfer.engines.here import run_items
from seg_transfer.engines.job import TRUSTED, Job
from seg_transfer.engines.ray_driver import Task, run_on_ray
from seg_transfer.engines.ray_training import run_distributed
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, Selection
from seg_transfer.study.run import Run


def run(job: Job) -> None:
    """Run the missing items of a job on the cluster named by RAY_ADDRESS, or else on this machine's cluster.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or the study lacks a field that the stage needs.
        IncompleteError: Items failed; the reasons were logged.
    """
    job = job.resolved()  # working directories differ between nodes
    groups: dict[str, list[Item]] = {}
    for item in job.items:
        groups.setdefault(job.stage.task_name(item), []).append(item)
    run_on_ray(
        partial(_missing_tasks, job, groups),
        job.run.leases,
        job.stage.command,
        n_cpus=job.threads or 1,
        n_processes=job.processes,
    )


def _missing_tasks(job: Job, groups: Mapping[str, Sequence[Item]]) -> list[Task]:
    """Make a task for each group that has missing items."""
    missing = {name: _missing(job, group) for name, group in groups.items()}
    return [_task(job, name, items) for name, items in missing.items() if items]


def _missing(job: Job, group: Sequence[Item]) -> list[Item]:
    """Return the items that are missing or whose status is unknown; the task of the latter reports the reason."""
    try:
        return list(job.stage.missing(job.run, group, job.settings))
    except Exception:
        if len(group) == 1:
            return list(group)
        return [missing for item in group for missing in _missing(job, [item])]


def _task(job: Job, name: str, items: Sequence[Item]) -> Task:
    leases = {job.stage.label(item): job.stage.lease(job.run, item) for item in items}
    title = f"{job.stage.command} {name}"
    if job.processes > 1:
        names = ([item.source for item in items], [item.target for item in items])
        sources, targets = (tuple(dict.fromkeys(filter(None, column))) for column in names)
        task_job = replace(job, selection=Selection(sources, targets), threads=job.threads or 1)
        options: dict[str, object] = {"arguments": [*task_job.command_line(), TRUSTED], "processes": job.processes}
        return Task(title, run_distributed, options, leases)
    options = {"stage": job.stage.name, "run": job.run, "items": items, "settings": job.settings}
    return Task(title, _run_task_items, options, leases)


def _run_task_items(*, stage: str, run: Run, items: Sequence[Item], settings: object) -> None:
    run_items(STAGES[stage], run, items, settings)
