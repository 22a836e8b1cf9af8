"""The batch script of a stage: what it asks of Slurm, what it runs, and how a task of it ends."""

import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from slurm_scripts import job, pretend, script_of, study_file

from seg_transfer.engines.slurm import (
    MAX_ARRAY_SIZE,
    MAX_RESTARTS,
    Resources,
    array_script,
    max_array_size,
    number_of_shards,
)
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Selection, parse_shard
from seg_transfer.study.run import Run, open_run

REQUEUED = "requeue 7_1"


def options_of(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    return [word for line in lines for word in shlex.split(line.removeprefix("#SBATCH "))]


def command_of(script: str) -> list[str]:
    (line,) = (line for line in script.splitlines() if line.endswith(" &"))
    return shlex.split(line.removesuffix(" &"))


# What it asks for and what it runs


def test_a_task_per_target_per_trained_source_and_per_fine_tuning(run):
    # 2 seeds of (4 pairs + 2 from scratch); the source that is brought along has both targets.
    expected = {"train": 2, "sample": 2, "score": 2, "finetune": 12}
    assert {stage: number_of_shards(job(run, stage)) for stage in expected} == expected
    assert "--array=0-11" in options_of(script_of(run, "finetune"))


@pytest.mark.parametrize(
    ("max_tasks", "array", "per_task", "said"),
    [
        (1001, "0-11", 1, "12 fine-tunings in 12 tasks"),
        (12, "0-11", 1, "12 fine-tunings in 12 tasks"),
        (11, "0-10", 2, "12 fine-tunings in 11 tasks, up to 2 in a task"),
        (5, "0-4", 3, "12 fine-tunings in 5 tasks, up to 3 in a task"),
        (1, "0-0", 12, "12 fine-tunings in 1 task, up to 12 in a task"),
    ],
)
def test_a_task_has_several_items_where_the_cluster_takes_no_more_tasks(run, max_tasks, array, per_task, said):
    script = script_of(run, "finetune", max_tasks)
    assert f"--array={array}" in options_of(script)
    assert script.splitlines()[1] == f"# {said}"
    # The shards of so many tasks hold every item once, and none more than the script says and has restarts for.
    shard = command_of(script)[-1]
    tasks = int(shard.rpartition("/")[2])
    shards = [parse_shard(shard.replace("$SLURM_ARRAY_TASK_ID", str(task))) for task in range(tasks)]
    stage = STAGES["finetune"]
    shares = [stage.selected(run, Selection(shard=one)) for one in shards]
    assert Counter(item for own in shares for item in own) == Counter(stage.items(run))
    assert max(map(len, shares)) == per_task
    assert f"\nmax_restarts={per_task * MAX_RESTARTS}\n" in script


def test_no_more_tasks_run_at_a_time_than_were_asked_for(run):
    script = script_of(run, "finetune", 5, max_running=2)
    assert "--array=0-4%2" in options_of(script)
    assert script.splitlines()[1] == "# 12 fine-tunings in 5 tasks, up to 3 in a task, 2 at a time"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("MaxArraySize            = 1001", 1001),
        ("MaxArraySize            = 75000\nMaxJobCount             = 10000", 75000),
        ("MaxArraySize = 400\nSchedulerParameters     = bf_continue,max_array_tasks=300,batch_sched_delay=1", 300),
        ("MaxArraySize            = 0", MAX_ARRAY_SIZE),
        ("MaxJobCount             = 10", MAX_ARRAY_SIZE),
        ("", MAX_ARRAY_SIZE),
    ],
)
def test_the_cluster_says_how_many_tasks_it_takes(commands, shown, expected):
    pretend(commands / "scontrol", f"[ \"$*\" = 'show config' ] && echo '{shown}'")
    assert max_array_size() == expected


@pytest.mark.parametrize("lines", [[], ["echo 'slurm_load_ctl_conf error' >&2", "exit 1"]])
def test_without_a_cluster_to_ask_it_is_the_default_of_slurm(commands, monkeypatch, lines):
    if lines:
        pretend(commands / "scontrol", *lines)
    else:
        monkeypatch.setenv("PATH", str(commands))
    assert max_array_size() == MAX_ARRAY_SIZE == 1001


def test_it_asks_for_restarts_a_warning_before_the_limit_and_the_resources(run):
    options = options_of(script_of(run, partition="gpu", time="04:00:00", gpus=2, cpus=8, memory_gb=32))
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append", "--nodes=1", "--ntasks=1"} <= set(options)
    assert {"--partition=gpu", "--time=04:00:00", "--gres=gpu:2", "--cpus-per-task=8", "--mem=32G"} <= set(options)


def test_what_was_not_asked_for_is_left_to_the_cluster(run):
    names = {option.partition("=")[0] for option in options_of(script_of(run, gpus=0))}
    assert not names & {"--partition", "--time", "--gres", "--mem"}


def test_own_options_come_last_so_that_they_win(run):
    own = ("--account=x", "--array=0-1%1", "--comment=two words")
    assert options_of(script_of(run, options=own))[-3:] == list(own)


def test_paths_with_blanks_quotes_and_per_cent_signs_arrive_whole(run):
    script = script_of(run)
    folder = run.folder.resolve()
    assert f"--output={str(folder).replace('%', '%%')}/slurm/logs/score_%A_%a.log" in options_of(script)
    assert command_of(script) == [
        *(sys.executable, "-m", "seg_transfer", "score-pairs", str(study_file(run).resolve())),
        *("--data-root", str(run.data_root.resolve()), "--run-folder", str(folder)),
        *("--engine", "here", "--threads", "4", "--shard", "$SLURM_ARRAY_TASK_ID/2"),
    ]


def test_relative_paths_are_those_of_where_it_was_submitted(run, monkeypatch):
    monkeypatch.chdir(run.folder.parent)
    here = open_run(Path("study.yaml"), Path(os.path.relpath(run.data_root)), Path("run"))
    assert array_script(replace(job(here), study_file=Path("study.yaml")), Resources()) == script_of(run)


@pytest.mark.parametrize(
    ("stage", "gpus", "words"),
    [
        ("train", 1, ["--threads", "8", "--workers", "7"]),
        ("train", 0, ["--threads", "8", "--shard"]),
        ("finetune", 2, ["--threads", "4", "--workers", "3"]),
        ("score", 2, ["--threads", "8", "--shard"]),
    ],
)
def test_the_cpus_are_shared_out_to_processes_and_readers_of_images(run, stage, gpus, words):
    command = command_of(script_of(run, stage, gpus=gpus, cpus=8))
    start = command.index("--threads")
    assert command[start : start + len(words)] == words


def test_several_gpus_train_together_and_score_alone(run):
    launcher = ["-m", "seg_transfer.training.launch", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    assert command_of(script_of(run, "train", gpus=2))[1:6] == launcher
    assert "seg_transfer.training.launch" not in command_of(script_of(run, gpus=2))


# How a task ends


def task(run: Run, commands: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, restarts: int = 0):
    """Start a task with a stand-in for Python."""
    pretend(commands / "scontrol", f'echo "$@" >>{commands}/requeued')
    monkeypatch.setattr(sys, "executable", str(pretend(commands / "python", *lines)))
    file = pretend(commands / "task.sh", *script_of(run, gpus=0).splitlines())
    variables = {"ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "1", "RESTART_COUNT": str(restarts)}
    environment = {
        **os.environ,
        "SLURMD_NODENAME": "n0",
        **{f"SLURM_{name}": value for name, value in variables.items()},
    }
    return subprocess.Popen([file], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def requeued(commands: Path) -> str:
    file = commands / "requeued"
    return file.read_text().strip() if file.exists() else ""


@pytest.mark.parametrize(
    ("line", "code", "again", "said"),
    [
        ("exit 0", 0, "", "done"),
        *(
            (f"exit {code}", code, "", f"exit code {code}; failed, because a restart cannot fix that")
            for code in range(2, 10)
        ),
        ("exit 1", 0, REQUEUED, "exit code 1; requeued"),
        ("kill -KILL $$", 0, REQUEUED, "exit code 137; requeued"),
    ],
)
def test_a_task_is_requeued_where_that_can_help_and_fails_elsewhere(
    run, commands, monkeypatch, line, code, again, said
):
    process = task(run, commands, monkeypatch, line)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, requeued(commands)) == (code, again), output
    assert f"seg-transfer: task 7_1 on n0: {said}" in output


def test_restarts_are_bounded(run, commands, monkeypatch):
    process = task(run, commands, monkeypatch, "kill -KILL $$", restarts=MAX_RESTARTS)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, requeued(commands)) == (1, "")
    assert f"exit code 137; failed after {MAX_RESTARTS} restarts" in output


def test_before_the_time_limit_it_stops_its_process_and_is_requeued(run, commands, monkeypatch):
    lines = ["trap 'echo reported to stop; exit 143' TERM", f"touch {commands}/started", "while :; do sleep 0.05; done"]
    process = task(run, commands, monkeypatch, *lines)
    while not (commands / "started").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=30)
    assert "reported to stop\n" in output
    assert "stopped before the time limit; requeued" in output
    assert (process.returncode, requeued(commands)) == (0, REQUEUED)
