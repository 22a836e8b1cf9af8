"""A real Slurm cluster runs stages of a study while processes are stopped and killed and a node is lost."""

import os
import re
import shlex
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq
import pytest
from end_to_end.slurm_cluster import NODES, Cluster, command_line, slurm_cluster, until, why_not
from files import found_below

pytestmark = pytest.mark.skipif(why_not() != "", reason=why_not())

DOMAINS = ("day_street", "dusk_street", "cells_dark")
COPIES = 6
PAIRS = COPIES * 6
_PATIENCE = 150.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with slurm_cluster() as running:
        monkeypatch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
        yield running


@pytest.fixture
def many(finished: Any, copy_of: Any) -> Any:
    """The finished study without its scores; its networks have more names, so that there is time to kill."""
    workspace = copy_of(finished)
    for file in workspace.run.glob("scores/*/*"):
        file.unlink()
    sources = {name: str(workspace.run / f"sources/{name}/source.json") for name in DOMAINS}
    again = [
        {"name": f"{name}-{copy}", "dataset": name, "config": config}
        for copy in range(COPIES)
        for name, config in sources.items()
    ]
    workspace.change(sources=again)
    return workspace


def submitted(workspace: Any, invoke: Callable[..., Any], stage: str, *options: str) -> tuple[str, list[str]]:
    """The job that was submitted, and the command that checks its results."""
    ended = invoke("submit", *workspace.place(), "--stage", stage, "--cpus", "1", *options)
    job = re.match(r"job (\d+): ", ended.out)
    assert job, ended.err
    return job[1], shlex.split(ended.out.splitlines()[1].partition(": ")[2])


def logs_of(workspace: Any, job: str) -> list[str]:
    """What each of the first three tasks of an array said so far."""
    (stage,) = (script.stem for script in workspace.run.glob("slurm/*.sh"))
    files = [workspace.run / f"slurm/logs/{stage}_{job}_{task}.log" for task in range(3)]
    return [file.read_text() if file.exists() else "" for file in files]


def finished_files(workspace: Any) -> dict[str, tuple[int, bytes]]:
    """Time of writing and content of every file of scores; those that are only being written come and go."""
    files = list(workspace.run.glob("scores/*/*.parquet"))
    return {str(file.relative_to(workspace.run)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def states(cluster: Cluster, job: str) -> list[str]:
    """The states of all tasks of an array, finished ones too."""
    return cluster.command("squeue", "--noheader", "--states=all", f"--job={job}", "--array", "--format=%T").split()


def scored(log: str) -> list[str]:
    return re.findall(r"^(\S+ -> \S+): gbc ", log, re.MULTILINE)


def works_on(logs: list[str], job: str, node: str) -> bool:
    """Whether a task that was started on a node, once, has scored some of its pairs."""
    return any(
        f"task {job}_{task} on {node}: start" in log
        and log.count(": start") == 1
        and 0 < len(scored(log)) < PAIRS / len(DOMAINS)
        for task, log in enumerate(logs)
    )


def python_on(cluster: Cluster, node: str) -> int:
    """The process that scores on a node."""
    running = [process for process in cluster.processes(node) if "score-pairs" in command_line(process)]
    assert len(running) == 1
    return running[0]


def test_a_killed_process_and_a_lost_node_lose_no_pair_and_repeat_none(cluster, many, finished, invoke):
    job, _ = submitted(many, invoke, "score")

    def explain() -> str:
        return "\n".join([cluster.log(), *logs_of(many, job), str(states(cluster, job))])

    def in_the_midst(nodes: Sequence[str]) -> list[str]:
        return [node for node in nodes if works_on(logs_of(many, job), job, node)]

    until(lambda: in_the_midst(NODES) != [], explain, _PATIENCE)
    shot = in_the_midst(NODES)[0]
    os.kill(python_on(cluster, shot), signal.SIGKILL)
    kept = finished_files(many)

    # The other node is hardly further than this one was.
    lost = next(node for node in NODES if node != shot)
    until(lambda: in_the_midst([lost]) != [], explain, _PATIENCE)
    cluster.kill_node(lost)
    kept_too = finished_files(many)
    assert 1 < len(kept_too) < PAIRS

    until(lambda: set(states(cluster, job)) == {"COMPLETED"}, explain, _PATIENCE)
    logs = logs_of(many, job)
    assert sum(log.count(f"on {shot}: exit code 137; requeued\n") for log in logs) == 1, explain()
    assert sum(log.count(": started, after 1 restarts\n") for log in logs) == 2, explain()

    # Every pair is there and valid, with the number of an undisturbed run.
    undisturbed = {(row["source"], row["target"], row["metric"]): row["score"] for row in finished.rows("scores")}
    rows = many.rows("scores")
    assert len(rows) == COPIES * len(undisturbed)
    for row in rows:
        assert row["score"] == undisturbed[row["source"].partition("-")[0], row["target"], row["metric"]]
    assert many.done("score-pairs", "--dry-run") == "nothing is missing\n"

    # None was computed twice. A process that is killed between the writing of a pair and its line has not said it.
    after = finished_files(many)
    assert [name for name, state in (kept | kept_too).items() if after[name] != state] == []
    assert kept_too == kept_too | kept
    times = Counter(pair for log in logs for pair in scored(log))
    assert set(times.values()) == {1}
    assert len(times) >= PAIRS - 2


def test_a_stopped_task_resumes_and_one_with_wrong_data_fails_at_once(cluster, finished, copy_of, invoke):
    workspace = copy_of(finished)
    tuning = workspace.study_fields()["fine_tuning"]
    changes = tuning["changes"] | {"steps": 100, "checkpoint_every": 3}
    tuning = {**tuning, "changes": changes, "scratch": False}
    workspace.change(sources=["day_street"], targets=["cells_dark", "dusk_street"], fine_tuning=tuning)
    (workspace.world / "dusk_street/eval/images/eval_0000.png").write_bytes(b"no image")
    job, _ = submitted(workspace, invoke, "finetune")

    def explain() -> str:
        return "\n".join([cluster.log(), *logs_of(workspace, job), str(states(cluster, job))])

    until(lambda: found_below(workspace.run / "fine_tuning", "resume.pth") != [], explain, _PATIENCE)
    cluster.command("scancel", "--batch", "--signal=USR1", f"{job}_0")
    until(lambda: sorted(states(cluster, job)) == ["COMPLETED", "FAILED"], explain, _PATIENCE)

    stopped, wrong, _ = logs_of(workspace, job)
    assert "stopped before the time limit; requeued\n" in stopped
    assert stopped.count(": started, after ") == 2
    assert "eval_0000.png: cannot be decoded" in wrong
    assert "exit code 4; failed, because a restart cannot fix that" in wrong
    assert wrong.count(": started, after ") == 1

    file = workspace.run / "performance/day_street/cells_dark.parquet"
    resumed = pq.read_table(file).to_pylist()[0]
    file.unlink()
    workspace.done("finetune-pairs", "--target", "cells_dark")
    undisturbed = pq.read_table(file).to_pylist()[0]
    assert all(resumed[name] == undisturbed[name] for name in ("miou", "class_iou", "content_key", "steps"))
    assert resumed["steps"] == 100


def test_a_cluster_of_few_tasks_gets_several_items_in_one(finished, copy_of, invoke, monkeypatch):
    workspace = copy_of(finished)
    for target in DOMAINS:
        next(workspace.run.glob(f"scores/*/{target}.parquet")).unlink()
    with slurm_cluster(max_tasks=2) as cluster:
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        a_task_each = subprocess.run(["sbatch", "--array=0-2", "--wrap=true"], capture_output=True, text=True)
        assert "Invalid job array specification" in a_task_each.stderr

        job, _ = submitted(workspace, invoke, "score", "--max-running", "1")
        assert "ArrayTaskThrottle=1" in cluster.command("scontrol", "show", "job", job)

        def explain() -> str:
            return "\n".join([cluster.log(), *logs_of(workspace, job), str(states(cluster, job))])

        until(lambda: states(cluster, job) == ["COMPLETED"] * 2, explain, _PATIENCE)
    (script,) = workspace.run.glob("slurm/*.sh")
    assert script.read_text().splitlines()[1] == "# 3 targets in 2 tasks, up to 2 in a task, 1 at a time"
    assert workspace.done("score-pairs", "--dry-run") == "nothing is missing\n"
