"""The commands that do the stages of a study, each made from its stage: its options are the stage's settings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from seg_transfer.cli import options
from seg_transfer.cli.common import prepared_run
from seg_transfer.console import stdout_closed
from seg_transfer.engines import engine_named
from seg_transfer.engines.job import Job
from seg_transfer.errors import IncompleteError
from seg_transfer.stages.base import Selection, Stage, shard_from
from seg_transfer.store.session import is_worker

if TYPE_CHECKING:
    from seg_transfer.stages.cost import Missing

# Prints what a stage found: the job, and whether as JSON.
Show = Callable[[Job, bool], None]


def stage_command(stage: Stage, show: Show | None = None) -> Callable[..., None]:
    """The command of a stage. With `show` it prints results in the end, of the items that did not fail."""
    parameters = _parameters(stage, prints=show is not None)
    defaults = {one.name: one.default for one in parameters}

    def command(**values: Any) -> None:
        _run(stage, show, defaults | values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _parameters(stage: Stage, *, prints: bool) -> list[Parameter]:
    kinds = get_type_hints(stage.settings_type)
    selections = {"sources": options.Sources, "targets": options.Targets}
    engine = "local" if stage.uses_gpu and not prints else "here"
    named: dict[str, tuple[Any, Any]] = {
        "data_root": (options.DataRoot, Path()),
        "run_folder": (options.RunFolder, None),
        **{name: (selections[name], None) for name in stage.selected_by},
        **({"targets": (options.Targets, Parameter.empty)} if stage.requires_targets else {}),
        "shard": (options.ShardText, "0/1"),
        "engine": (options.EngineName, engine),
        "dry_run": (options.DryRun, False),
        **{
            one.name: (options.setting_option(one, kinds[one.name]), one.default) for one in fields(stage.settings_type)
        },
        "threads": (options.Threads, 0),
        **({"processes": (options.Processes, 1)} if stage.trains else {}),
        "trust_config": (options.TrustConfig, False),
        "as_json": (options.AsJson if prints else options.DryRunAsJson, False),
        "debug": (options.Debug, False),
    }
    how = Parameter.KEYWORD_ONLY
    return [
        Parameter("study", how, annotation=options.StudyFile),
        *(Parameter(name, how, default=default, annotation=kind) for name, (kind, default) in named.items()),
    ]


def _run(stage: Stage, show: Show | None, values: dict[str, Any]) -> None:
    study, trusted, as_json = values["study"], values["trust_config"], values["as_json"]
    run = prepared_run(study, values["data_root"], values["run_folder"], trust_config=trusted)
    chosen = {name: tuple(values.get(name) or ()) for name in ("sources", "targets")}
    job = Job(
        stage,
        run,
        study,
        Selection(**chosen, shard=shard_from(values["shard"])),
        stage.settings_type(**{one.name: values[one.name] for one in fields(stage.settings_type)}),
        values["threads"],
        values.get("processes", 1),
        values["debug"],
    )
    if values["dry_run"]:
        _print_missing(_missing(job), as_json)
        return
    engine = engine_named("here" if is_worker() else values["engine"])
    if show is None or is_worker():  # the process that started the workers shows what all of them found
        engine(job)
        return
    failed: IncompleteError | None = None
    with stdout_closed() if as_json else nullcontext():
        try:
            engine(job)
        except IncompleteError as error:
            failed = error
    show(job, as_json)
    if failed is not None:
        raise failed


def _missing(job: Job) -> list[Missing]:
    from seg_transfer.engines.here import limited_threads
    from seg_transfer.models.devices import chosen_device
    from seg_transfer.stages.cost import missing_costs

    with limited_threads(job.threads):
        device = chosen_device(getattr(job.settings, "device", "auto"))
        return missing_costs(job.stage, job.run, job.items, device, job.settings)


def _print_missing(missing: Sequence[Missing], as_json: bool) -> None:
    total = sum(one.seconds for one in missing)
    if as_json:
        items = [{"item": one.item, "seconds": one.seconds, "basis": one.basis} for one in missing]
        typer.echo(json.dumps({"missing": items, "total_seconds": total}, indent=1))
        return
    for one in missing:
        typer.echo(f"missing: {one.item}, about {one.seconds:.0f} s (from {one.basis})")
    typer.echo(
        f"{len(missing)} missing, about {total / 60:.1f} min on this machine" if missing else "nothing is missing"
    )
