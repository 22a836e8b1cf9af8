"""The ``seg-transfer submit`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seg_transfer.cli.options import DataRoot, Debug, RunFolder, StudyFile
from seg_transfer.engines.slurm import Resources, Stage


def submit(
    study: StudyFile,
    stage: Annotated[
        Stage,
        typer.Option(
            help="A task per source, target or fine-tuning; for several, past Slurm's limit.",
            show_default=False,
        ),
    ],
    data_root: DataRoot = Path(),
    run_folder: RunFolder = None,
    partition: Annotated[str | None, typer.Option(help="The cluster's default, if not given.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="HH:MM:SS", help="Limit of a task; it then goes on later.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="Per task; training shares its batches between several.")] = 1,
    cpus: Annotated[int, typer.Option(min=1, help="Per task.")] = 4,
    mem: Annotated[int | None, typer.Option(min=1, metavar="GB", help="Per task.")] = None,
    max_running: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tasks at a time; all there is room for, if not given.")
    ] = None,
    sbatch_option: Annotated[list[str] | None, typer.Option(help="Like --account=x, for sbatch; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script and submit nothing.")] = False,
    debug: Debug = False,
) -> None:
    """Submit a stage of a study to Slurm as a job array; tasks that are stopped or killed go on by themselves."""
    from seg_transfer.engines import slurm
    from seg_transfer.study.run import open_run

    run = open_run(study, data_root, run_folder)
    resources = Resources(partition, time, gpus, cpus, mem, max_running, tuple(sbatch_option or ()))
    most_tasks = slurm.max_array_size()
    script = slurm.array_script(run, study, stage, resources, most_tasks)
    if dry_run:
        typer.echo(script)
        return
    job = slurm.submit(script, run, stage)
    array = slurm.summary(run, stage, resources, most_tasks)
    typer.echo(f"job {job}: {array}; see squeue --job={job} and {slurm.logs(run)}")
    typer.echo(f"when it has ended: {slurm.check_command(run, study)}")
