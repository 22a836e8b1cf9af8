"""Submits a job as a Slurm job array: one batch script, one task per shard, and a limited number of restarts."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from seg_transfer.engines.job import Job, location_args
from seg_transfer.errors import ConfigError, SegTransferError
from seg_transfer.store.atomic import write_text
from seg_transfer.training.launch import launch_command

# Restarts per item; a task with several items may restart more often.
MAX_RESTARTS = 5
# Slurm's default for MaxArraySize, which is the highest task index plus one.
MAX_ARRAY_SIZE = 1001
SECONDS_TO_STOP = 120

# The script requeues a task as ARRAY_TASK, because the last task of an array has the job id of the whole array, and
# requeuing that id would requeue all tasks. The trap ends the first `wait`, not the process.
_BODY = """
max_restarts={max_restarts}
restarts=${{SLURM_RESTART_COUNT:-0}}
task=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
stopped=

note() {{
    echo "seg-transfer: task $task on $SLURMD_NODENAME: $1"
}}

stop() {{
    stopped=yes
    kill -TERM "$process"
}}

restart() {{
    if [ "$restarts" -ge "$max_restarts" ]; then
        note "$1; failed after $restarts restarts; read the lines above, then submit again: finished items are kept"
        exit 1
    fi
    note "$1; requeued"
    scontrol requeue "$task" || exit 1
    exit 0
}}

note "started, after $restarts restarts"
{command} &
process=$!
trap stop USR1
wait "$process"
code=$?

if [ -n "$stopped" ]; then
    wait "$process"
    restart "stopped before the time limit"
elif [ "$code" -eq 0 ]; then
    note "done"
elif [ "$code" -eq 1 ] || [ "$code" -gt 128 ]; then
    restart "exit code $code"
else
    note "exit code $code; failed, because a restart cannot fix that; fix what the lines above name, then submit again"
fi
exit "$code"
"""


@dataclass(frozen=True)
class Resources:
    """The resources that a job array requests; all but the last two apply to each task.

    Attributes:
        partition, time, memory_gb: None keeps the cluster's default.
        gpus: Number of GPUs; 0 for a cluster without GPUs.
        cpus: Number of CPUs; also sets the number of threads and, with a GPU, of processes that read training images.
        max_running: Maximum number of tasks that run at the same time; None sets no limit.
        options: Further sbatch options, such as ``--account=x``, which override all others.
    """

    partition: str | None = None
    time: str | None = None
    gpus: int = 1
    cpus: int = 4
    memory_gb: int | None = None
    max_running: int | None = None
    options: tuple[str, ...] = ()


def array_script(job: Job, resources: Resources, max_tasks: int = MAX_ARRAY_SIZE) -> str:
    """Make the batch script of a job, with one task per shard, or several shards per task if there are too many.

    A task that is stopped before the time limit, or killed, requeues itself at most `MAX_RESTARTS` times per shard. A
    task whose exit code says that the study, data or checkpoints must be fixed fails at once.

    Raises:
        ConfigError: The stage has nothing to do in this study, or Slurm cannot read a path or an option.
    """
    items = number_of_shards(job)
    if not items:
        name = job.run.study.name
        raise ConfigError(f"study {name}: stage {job.stage.name} has nothing to do; choose another stage")
    tasks = min(items, max_tasks)
    comment = f"# {summary(job, resources, max_tasks)}"
    lines = [_directive(option) for option in _options(job, tasks, resources)]
    command = _command(job, tasks, resources)
    body = _BODY.format(max_restarts=MAX_RESTARTS * ceil(items / tasks), command=command)
    return "\n".join(["#!/usr/bin/env bash", comment, *lines, body])


def summary(job: Job, resources: Resources, max_tasks: int) -> str:
    """Describe the numbers of shards, tasks, and tasks that run at a time, such as "4 targets in 4 tasks"."""
    items = number_of_shards(job)
    tasks = min(items, max_tasks)
    several = f", up to {ceil(items / tasks)} in a task" if items > tasks else ""
    at_a_time = f", {resources.max_running} at a time" if resources.max_running else ""
    return f"{_with_noun(items, job.stage.shard_noun)} in {_with_noun(tasks, 'task')}{several}{at_a_time}"


def _with_noun(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def max_array_size() -> int:
    """Return the maximum number of tasks of an array on this cluster; if that is unknown, Slurm's default."""
    try:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return MAX_ARRAY_SIZE
    # A MaxArraySize of 0 means that this cluster accepts no arrays at all; sbatch reports that.
    limits = re.findall(r"\b(?:MaxArraySize\s*=\s*|max_array_tasks=)([1-9]\d*)", shown)
    return min(map(int, limits), default=MAX_ARRAY_SIZE)


def number_of_shards(job: Job) -> int:
    """Return the number of shards that a job can be divided into, such as the number of targets for scoring."""
    return len(set(map(job.stage.shard_key, job.items)))


def submit(script: str, job: Job) -> str:
    """Save the script in the run folder and submit it with sbatch; returns the job id.

    Raises:
        SegTransferError: sbatch is not available, or it rejects the script.
    """
    if shutil.which("sbatch") is None:
        raise SegTransferError(
            "sbatch: not found on PATH; submit on a machine with the Slurm commands, or print the script with --dry-run"
        )
    folder = log_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{job.stage.name}.sh"
    write_text(file, script)
    done = subprocess.run(["sbatch", "--parsable", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SegTransferError(f"{file}: rejected by sbatch ({reason}); correct the option that it names")
    return done.stdout.strip().partition(";")[0]


def check_command(job: Job) -> str:
    """Return the command to run after the array has ended, because a completed task does not prove a valid result."""
    job = job.resolved()
    return shlex.join(["seg-transfer", "plan", *location_args(job.study_file, job.run), "--check"])


def _options(job: Job, tasks: int, resources: Resources) -> list[str]:
    stage, folder = job.stage.name, str(log_folder(job)).replace("%", "%%")
    wanted = {
        "partition": resources.partition,
        "time": resources.time,
        "mem": resources.memory_gb and f"{resources.memory_gb}G",
        "gres": resources.gpus and f"gpu:{resources.gpus}",
    }
    return [
        f"--job-name=seg-transfer-{stage}-{job.run.study.name}",
        f"--array=0-{tasks - 1}" + (f"%{resources.max_running}" if resources.max_running else ""),
        f"--output={folder}/{stage}_%A_%a.log",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{SECONDS_TO_STOP}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={resources.cpus}",
        *(f"--{name}={value}" for name, value in wanted.items() if value),
        *resources.options,
    ]


def _directive(option: str) -> str:
    if not option.startswith("--") or any(character in option for character in "\\\n"):
        raise ConfigError(
            f"sbatch option {option!r}: must be one line like --name=value, without a backslash; rewrite it"
        )
    return f"#SBATCH {shlex.quote(option)}"


def _command(job: Job, tasks: int, resources: Resources) -> str:
    processes = max(resources.gpus, 1) if job.stage.trains else 1
    cpus = max(resources.cpus // processes, 1)
    settings = job.settings
    if job.stage.trains and resources.gpus:
        settings = replace(settings, workers=cpus - 1)
    arguments = replace(job.resolved(), settings=settings, threads=cpus).command_line("here")
    line = shlex.join(launch_command([*arguments, "--shard"], processes))
    return f'{line} "$SLURM_ARRAY_TASK_ID/{tasks}"'


def log_folder(job: Job) -> Path:
    """Return the folder of the task logs of all stages; a restarted task appends to its log."""
    return job.run.folder.resolve() / "slurm" / "logs"
