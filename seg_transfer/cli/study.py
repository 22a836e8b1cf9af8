"""The commands about a whole study: plan and submit."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seg_transfer.cli.common import warn_about_code
from seg_transfer.cli.options import AsJson, DataRoot, Debug, RunFolder, Sources, StudyFile, Targets, TrustConfig
from seg_transfer.console import plain_console
from seg_transfer.errors import ResultsError
from seg_transfer.stages import STAGES

if TYPE_CHECKING:
    from seg_transfer.stages.base import Selection, Stage
    from seg_transfer.study.run import Run

_logger = logging.getLogger(__name__)


def plan(
    study: StudyFile,
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Read every file again; exit with code 7 unless everything is done and valid."),
    ] = False,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List which items of a study are done, missing or stale and why, and estimate the rest. Computes nothing."""
    from seg_transfer.reports.plan import plan_dict, plan_study, render_plan
    from seg_transfer.study.run import open_run

    run = open_run(study, data_root, run_folder)
    if not trust_config:
        warn_about_code(run.study.code())
    if check:
        _check(run, as_json)
        return
    study_plan = plan_study(run)
    if as_json:
        typer.echo(json.dumps(plan_dict(study_plan), indent=1))
        return
    render_plan(study_plan, plain_console())


def _check(run: Run, as_json: bool) -> None:
    from seg_transfer.stages.check import problems

    lines = problems(run)
    for problem in lines:
        _logger.error("%s", problem)
    if as_json:
        typer.echo(json.dumps({"problems": lines}, indent=1))
    elif not lines:
        typer.echo(f"{run.folder}: every item is done and every file is valid")
    if lines:
        sys.exit(ResultsError.exit_code)


def _known_stage(name: str | None) -> str | None:
    if name is None or name in STAGES:  # None while a shell completes the command line
        return name
    raise typer.BadParameter(f"{name!r} is no stage; choose {', '.join(STAGES)}")


def submit(
    study: StudyFile,
    stage: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(STAGES)}: one task per source, target or fine-tuning, or per several past Slurm's limit.",
            show_default=False,
            callback=_known_stage,
            autocompletion=lambda: list(STAGES),
        ),
    ],
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    sources: Sources = None,
    targets: Targets = None,
    partition: Annotated[str | None, typer.Option(help="The cluster's default, if not given.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="HH:MM:SS", help="Time limit of a task, which then continues later.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs per task; training splits its batches among them.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="CPUs per task.")] = 4,
    mem: Annotated[int | None, typer.Option(min=1, metavar="GB", help="Memory per task.")] = None,
    max_running: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Maximum number of tasks at a time; unlimited if not given.")
    ] = None,
    sbatch_option: Annotated[
        list[str] | None, typer.Option(help="Further sbatch option, such as --account=x; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script and submit nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Submit a stage of a study to Slurm as a job array; stopped or killed tasks restart automatically."""
    from seg_transfer.engines import slurm
    from seg_transfer.engines.job import Job
    from seg_transfer.study.run import open_run

    chosen, run = STAGES[stage], open_run(study, data_root, run_folder)
    job = Job(chosen, run, study, _selection(chosen, sources, targets), chosen.settings_type())
    resources = slurm.Resources(partition, time, gpus, cpus, mem, max_running, tuple(sbatch_option or ()))
    max_tasks = slurm.max_array_size()
    script = slurm.array_script(job, resources, max_tasks)
    if dry_run:
        typer.echo(script)
        return
    number = slurm.submit(script, job)
    array = slurm.summary(job, resources, max_tasks)
    typer.echo(f"job {number}: {array}; see squeue --job={number} and {slurm.log_folder(job)}")
    typer.echo(f"when it has ended: {slurm.check_command(job)}")


def _selection(stage: Stage, sources: list[str] | None, targets: list[str] | None) -> Selection:
    from seg_transfer.stages.base import Selection

    for option, names in (("source", sources), ("target", targets)):
        if names and f"{option}s" not in stage.selected_by:
            raise typer.BadParameter(f"stage {stage.name} has no {option}s; leave out --{option}")
    return Selection(tuple(sources or ()), tuple(targets or ()))
