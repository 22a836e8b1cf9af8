"""The engine that works on a Ray cluster: one task for the items that share what is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from seg_transfer.engines.here import run_items
from seg_transfer.engines.job import TRUSTED, Job
from seg_transfer.engines.ray_driver import Task, run_on_ray
from seg_transfer.engines.ray_training import train_together
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, Selection
from seg_transfer.study.run import Run


def run(job: Job) -> None:
    """Do what is missing of a job on the cluster that RAY_ADDRESS names, or that this machine belongs to.

    Raises:
        ConfigError: There is no Ray, or no cluster, or the study lacks what the stage needs.
        IncompleteError: Items failed; the reasons were logged.
    """
    # Other nodes have other working directories.
    run = replace(job.run, data_root=job.run.data_root.resolve(), folder=job.run.folder.resolve())
    job = replace(job, run=run)
    groups: dict[str, list[Item]] = {}
    for item in job.items:
        groups.setdefault(job.stage.task_name(item), []).append(item)
    run_on_ray(
        partial(_missing_tasks, job, groups),
        run.leases,
        job.stage.command,
        n_cpus=job.threads or 1,
        n_processes=job.processes,
    )


def _missing_tasks(job: Job, groups: Mapping[str, Sequence[Item]]) -> list[Task]:
    """A task for what is missing of each group."""
    missing = {name: _missing(job, group) for name, group in groups.items()}
    return [_task(job, name, items) for name, items in missing.items() if items]


def _missing(job: Job, group: Sequence[Item]) -> list[Item]:
    """The items of a group that are missing, or whose status is unknown: their task will report why."""
    try:
        return list(job.stage.missing(job.run, group, job.settings))
    except Exception:
        if len(group) == 1:
            return list(group)
        return [item for one in group for item in _missing(job, [one])]


def _task(job: Job, name: str, items: Sequence[Item]) -> Task:
    leases = {job.stage.label(item): job.stage.lease(job.run, item) for item in items}
    title = f"{job.stage.command} {name}"
    if job.processes > 1:
        names = ([item.source for item in items], [item.target for item in items])
        sources, targets = (tuple(dict.fromkeys(filter(None, some))) for some in names)
        alone = replace(job, selection=Selection(sources, targets), threads=job.threads or 1)
        options: dict[str, object] = {"arguments": [*alone.command_line(), TRUSTED], "processes": job.processes}
        return Task(title, train_together, options, leases)
    options = {"stage": job.stage.name, "run": job.run, "items": items, "settings": job.settings}
    return Task(title, _run_on_node, options, leases)


def _run_on_node(*, stage: str, run: Run, items: Sequence[Item], settings: object) -> None:
    run_items(STAGES[stage], run, items, settings)
