"""Batch scripts for the stages of a run, and stand-ins for commands."""

from pathlib import Path

from seg_transfer.engines.job import Job
from seg_transfer.engines.slurm import MAX_ARRAY_SIZE, Resources, array_script
from seg_transfer.stages import STAGES
from seg_transfer.study.run import Run


def pretend(command: Path, *lines: str) -> Path:
    command.write_text("\n".join(["#!/usr/bin/env bash", *lines, ""]))
    command.chmod(0o755)
    return command


def job(run: Run, stage: str = "score") -> Job:
    return Job(STAGES[stage], run, study_file(run), settings=STAGES[stage].settings_type())


def script_of(run: Run, stage: str = "score", max_tasks: int = MAX_ARRAY_SIZE, **resources) -> str:
    return array_script(job(run, stage), Resources(**resources), max_tasks)


def study_file(run: Run) -> Path:
    return run.folder.parent / "study.yaml"
