"""A job as a Slurm job array: one batch script, one task per shard, a limited number of restarts."""

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

# Per item: a task with several items may restart more often.
MAX_RESTARTS = 5
# Slurm's own default of MaxArraySize, which is one more than the highest index of a task.
MAX_ARRAY_SIZE = 1001
SECONDS_TO_STOP = 120

# `scontrol requeue` of a task's own job id would requeue the whole array where it is the array's last task: Slurm gives
# that one the id of the array. The trap ends the first `wait`, not the process.
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
        note "$1; failed, after $restarts restarts; read the lines above, then submit again: what is finished is kept"
        exit 1
    fi
    note "$1; requeued"
    scontrol requeue "$task" || exit 1
    exit 0
}}

note "start, after $restarts restarts"
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
    note "exit code $code; failed, for a restart cannot fix that; fix what the lines above name, then submit again"
fi
exit "$code"
"""


@dataclass(frozen=True)
class Resources:
    """What an array asks of Slurm; all but the last two are of each task.

    Attributes:
        partition, time, memory_gb: None leaves the cluster's default.
        gpus: 0 for a cluster without.
        cpus: Also sets the number of threads and, with a GPU, of processes that read training images.
        max_running: Tasks at a time; None for all that the cluster has room for.
        options: More options of sbatch, each like ``--account=x``; they win over all others.
    """

    partition: str | None = None
    time: str | None = None
    gpus: int = 1
    cpus: int = 4
    memory_gb: int | None = None
    max_running: int | None = None
    options: tuple[str, ...] = ()


def array_script(job: Job, resources: Resources, most_tasks: int = MAX_ARRAY_SIZE) -> str:
    """The batch script of a job: a task for every item, or for several items where that would be too many tasks.

    A task that is stopped before the time limit, or killed, puts itself into the queue again, at most `MAX_RESTARTS`
    times; one whose exit code says that the study, data or checkpoints must be fixed fails at once.

    Raises:
        ConfigError: The stage has nothing to do in this study, or Slurm could not read a path or an option.
    """
    items = number_of_shards(job)
    if not items:
        name = job.run.study.name
        raise ConfigError(f"study {name}: stage {job.stage.name} has nothing to do in it; choose another stage")
    tasks = min(items, most_tasks)
    comment = f"# {summary(job, resources, most_tasks)}"
    lines = [_directive(option) for option in _options(job, tasks, resources)]
    command = _command(job, tasks, resources)
    body = _BODY.format(max_restarts=MAX_RESTARTS * ceil(items / tasks), command=command)
    return "\n".join(["#!/usr/bin/env bash", comment, *lines, body])


def summary(job: Job, resources: Resources, most_tasks: int) -> str:
    """The numbers of items, of tasks, and of tasks that run at a time, as a phrase."""
    items = number_of_shards(job)
    tasks = min(items, most_tasks)
    several = f", up to {ceil(items / tasks)} in a task" if items > tasks else ""
    at_a_time = f", {resources.max_running} at a time" if resources.max_running else ""
    return f"{_counted(items, job.stage.shard_noun)} in {_counted(tasks, 'task')}{several}{at_a_time}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def max_array_size() -> int:
    """How many tasks an array may have on this cluster; Slurm's default where the cluster does not tell."""
    try:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return MAX_ARRAY_SIZE
    # A MaxArraySize of 0 means that this cluster takes no arrays at all: sbatch says so.
    limits = re.findall(r"\b(?:MaxArraySize\s*=\s*|max_array_tasks=)([1-9]\d*)", shown)
    return min(map(int, limits), default=MAX_ARRAY_SIZE)


def number_of_shards(job: Job) -> int:
    """How many shards a job can be divided into, such as the targets of a stage that scores."""
    return len(set(map(job.stage.shard_key, job.items)))


def submit(script: str, job: Job) -> str:
    """Keep the script in the run folder, hand it to sbatch, and give the id of the job.

    Raises:
        SegTransferError: There is no sbatch here, or it refuses the script.
    """
    if shutil.which("sbatch") is None:
        raise SegTransferError(
            "sbatch: not found on PATH; submit where the Slurm commands are, or print the script by --dry-run"
        )
    folder = log_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{job.stage.name}.sh"
    write_text(file, script)
    done = subprocess.run(["sbatch", "--parsable", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SegTransferError(f"{file}: refused by sbatch ({reason}); change the option it names")
    return done.stdout.strip().partition(";")[0]


def check_command(job: Job) -> str:
    """What to run when the array has ended: a task that Slurm reports as done proves no valid result."""
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
            f"sbatch option {option!r}: must be one line, like --name=value, without a backslash; rewrite it"
        )
    return f"#SBATCH {shlex.quote(option)}"


def _command(job: Job, tasks: int, resources: Resources) -> str:
    processes = max(resources.gpus, 1) if job.stage.trains else 1
    cpus = max(resources.cpus // processes, 1)
    settings = job.settings
    if job.stage.trains and resources.gpus:
        settings = replace(settings, workers=cpus - 1)
    arguments = replace(job, settings=settings, threads=cpus).command_line("here")
    line = shlex.join(launch_command([*arguments, "--shard"], processes))
    return f'{line} "$SLURM_ARRAY_TASK_ID/{tasks}"'


def log_folder(job: Job) -> Path:
    """Where the tasks of all stages write their output; a task that is restarted appends to its own file."""
    return job.run.folder.resolve() / "slurm" / "logs"
