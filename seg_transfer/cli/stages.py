"""The commands of the stages, each built from its stage; its options include the stage's settings."""

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
from seg_transfer.cli.common import prepare_run
from seg_transfer.console import silent_stdout
from seg_transfer.engines import get_engine
from seg_transfer.engines.job import Job
from seg_transfer.errors import IncompleteError
from seg_transfer.stages.base import Selection, Stage, parse_shard
from seg_transfer.store.session import is_worker

if TYPE_CHECKING:
    from seg_transfer.stages.cost import Missing

# Prints the results of a job, as JSON if the flag is set.
Show = Callable[[Job, bool], None]


def stage_command(stage: Stage, show: Show | None = None) -> Callable[..., None]:
    """Build the command of a stage; `show` prints the results of the items that did not fail, at the end."""
    parameters = _parameters(stage, prints=show is not None)
    defaults = {parameter.name: parameter.default for parameter in parameters}

    def command(**values: Any) -> None:
        _run(stage, show, defaults | values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
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
            field.name: (options.setting_option(field, kinds[field.name]), field.default)
            for field in fields(stage.settings_type)
        },
        "threads": (options.Threads, 0),
        **({"processes": (options.Processes, 1)} if stage.trains else {}),
        "trust_config": (options.TrustConfig, False),
        "as_json": (options.AsJson if prints else options.DryRunAsJson, False),
        "debug": (options.Debug, False),
    }
    keyword = Parameter.KEYWORD_ONLY
    return [
        Parameter("study", keyword, annotation=options.StudyFile),
        *(Parameter(name, keyword, default=default, annotation=kind) for name, (kind, default) in named.items()),
    ]


def _run(stage: Stage, show: Show | None, values: dict[str, Any]) -> None:
    study, trusted, as_json = values["study"], values["trust_config"], values["as_json"]
    run = prepare_run(study, values["data_root"], values["run_folder"], trust_config=trusted)
    chosen = {name: tuple(values.get(name) or ()) for name in ("sources", "targets")}
    job = Job(
        stage,
        run,
        study,
        Selection(**chosen, shard=parse_shard(values["shard"])),
        stage.settings_type(**{field.name: values[field.name] for field in fields(stage.settings_type)}),
        values["threads"],
        values.get("processes", 1),
        values.get("processes_without_gpu", 1),
        values["debug"],
    )
    if values["dry_run"]:
        _print_missing(_missing(job), as_json)
        return
    engine = get_engine("here" if is_worker() else values["engine"])
    if show is None or is_worker():  # the parent process of the workers shows all results
        engine(job)
        return
    failed: IncompleteError | None = None
    with silent_stdout() if as_json else nullcontext():
        try:
            engine(job)
        except IncompleteError as error:
            failed = error
    show(job, as_json)
    if failed is not None:
        raise failed


def _missing(job: Job) -> list[Missing]:
    from seg_transfer.engines.here import limit_threads
    from seg_transfer.models.devices import chosen_device
    from seg_transfer.stages.cost import missing_costs

    with limit_threads(job.threads):
        device = chosen_device(getattr(job.settings, "device", "auto"))
        return missing_costs(job.stage, job.run, job.items, device, job.settings)


def _print_missing(missing: Sequence[Missing], as_json: bool) -> None:
    total = sum(item.seconds for item in missing)
    if as_json:
        items = [{"item": item.item, "seconds": item.seconds, "basis": item.basis} for item in missing]
        typer.echo(json.dumps({"missing": items, "total_seconds": total}, indent=1))
        return
    for item in missing:
        typer.echo(f"missing: {item.item}, about {item.seconds:.0f} s (from {item.basis})")
    typer.echo(
        f"{len(missing)} missing, about {total / 60:.1f} min on this machine" if missing else "nothing is missing"
    )
