"""Processes of a stage, replaced by shell scripts: what they print is printed, and they share the cores."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from seg_transfer.engines import local
from seg_transfer.engines.job import Job
from seg_transfer.errors import SegTransferError
from seg_transfer.stages import STAGES
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.store.session import EVENT, WORKER
from seg_transfer.study.definition import Study
from seg_transfer.study.run import Run

CRASHES = local._MAX_CRASHES + 1


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Runs a stage of which every process is a script; warnings stand on stdout, between their lines."""
    monkeypatch.setattr(local._logger, "warning", lambda text, *values: print(text % values))

    def run(script: str, **options) -> None:
        monkeypatch.setattr(local, "launch_command", lambda arguments, group_size: ["bash", "-c", script])
        local.run_in_pool(["stage"], tmp_path / "leases", "stage", **options)

    return run


@pytest.mark.parametrize("attempt", range(5))
def test_output_of_a_killed_process_comes_before_the_report_that_it_was_killed(play, capsys, attempt):
    count = 3000 + attempt  # more than one pipe holds
    with pytest.raises(SegTransferError, match=f"{CRASHES} processes in a row were killed"):
        play(f"seq {count}; printf 'cut off'; kill -KILL $$")
    said = [*map(str, range(1, count + 1)), "cut off"]
    death = "a process was killed (SIGKILL); starting another in its place"
    assert capsys.readouterr().out.splitlines() == ([*said, death] * CRASHES)[:-1]


def test_both_streams_are_printed_to_the_end(play, capfd):
    play("seq 20000 >&2 & seq 20000; wait; printf end; printf 'end of errors' >&2")
    found = capfd.readouterr()
    assert found.out.splitlines() == [*map(str, range(1, 20001)), "end"]
    assert found.err.splitlines() == [*map(str, range(1, 20001)), "end of errors"]


def test_half_an_event_is_no_line_and_no_error(play, capsys):
    event = EVENT + json.dumps({"done": "a", "total": 2})
    with pytest.raises(SegTransferError):
        play(f"printf '%s' '{event[:9]}'; kill -KILL $$")
    assert EVENT not in capsys.readouterr().out


def test_bytes_that_are_no_text_are_shown_and_lose_no_line(play, capsys):
    play(r"printf 'a\377b\n'; echo after")
    assert capsys.readouterr().out.splitlines() == [r"a\xffb", "after"]


def test_what_a_killed_process_started_is_not_waited_for(play, capsys):
    with pytest.raises(SegTransferError):
        play("sleep 1000 & echo $!; kill -KILL $$")
    left = [int(line) for line in capsys.readouterr().out.splitlines() if line.isdecimal()]
    assert len(left) == CRASHES
    for process in left:
        os.kill(process, signal.SIGKILL)  # it is still there


def test_final_output_of_stopped_processes_is_printed(play, capsys, monkeypatch):
    @contextmanager
    def interrupted_by_progress(title):
        def tick(done, total):
            raise KeyboardInterrupt

        yield tick

    monkeypatch.setattr(local, "progress_of", interrupted_by_progress)
    event = EVENT + json.dumps({"done": "a", "total": 2})
    with pytest.raises(KeyboardInterrupt):
        play(f"trap 'seq 20000; exit 143' TERM; echo '{event}'; while :; do sleep 0.05; done")
    assert capsys.readouterr().out.splitlines() == [*map(str, range(1, 20001))]


@pytest.mark.parametrize(("gpus", "number"), [((), 3), (("0", "1"), 2)])
def test_several_processes_share_the_items_where_there_is_no_gpu(play, capsys, gpus, number):
    play(f"echo ${WORKER}", gpus=gpus, without_gpu=3)
    assert sorted(capsys.readouterr().out.split()) == [f"{index}/{number}" for index in range(number)]


@pytest.mark.parametrize("debug", [False, True])
def test_processes_show_tracebacks_where_the_command_does(monkeypatch, tmp_path, debug):
    started = []
    monkeypatch.setattr(local, "run_in_pool", lambda arguments, *_, **_options: started.extend(arguments))
    (tmp_path / "study.yaml").touch()
    study = Study(name="x", manifests=(tmp_path,), sources=({"name": "a", "dataset": "a"},), targets=("b",))
    run = Run(study, {}, tmp_path / "data", tmp_path / "run")
    local.run(Job(STAGES["score"], run, tmp_path / "study.yaml", settings=ScoreSettings(device="cpu"), debug=debug))
    assert ("--debug" in started) == debug


# How they share the cores


@pytest.mark.parametrize(
    ("gpus", "group_size", "own", "expected"),
    [
        ([], 1, None, [""]),
        (["0"], 1, None, [""]),
        (["0", "1"], 1, None, ["4", "4"]),
        (["0", "1", "2"], 1, None, ["2", "2", "2"]),
        ([str(gpu) for gpu in range(9)], 1, None, ["1"] * 9),
        (["0", "1", "2", "3"], 2, None, ["2", "2"]),
        ([], 2, None, ["4"]),
        (["0", "1"], 1, "7", ["7", "7"]),
    ],
)
def test_several_processes_share_the_cores_unless_the_user_says_otherwise(
    play, capsys, monkeypatch, gpus, group_size, own, expected
):
    monkeypatch.setattr(local, "available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    play('echo "$OMP_NUM_THREADS"', gpus=gpus, group_size=group_size)
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize(
    ("quota", "expected"),
    [(None, 6), ("max 100000\n", 6), ("250000 100000\n", 3), ("50000 100000\n", 1), ("1600000 100000\n", 6)],
)
def test_cores_are_those_that_the_process_may_use(monkeypatch, tmp_path, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    file = tmp_path / "cpu.max"
    if quota:
        file.write_text(quota)
    assert local.available_cores(file) == expected
