"""The exit code of several processes that train together."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from seg_transfer.training.launch import RESTART_CODE, exit_code

LAUNCH = [sys.executable, "-m", "seg_transfer.training.launch", "--standalone", "--nproc-per-node=1"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((3,), 3),
        ((3, 3), 3),
        ((1, 9), 9),
        ((-9,), 137),
        ((1, -9), 137),
        ((-9, 3), 137),
        ((-15, -9), 137),
        ((-15,), 143),
        ((1, -15), 1),
        ((RESTART_CODE, -15), RESTART_CODE),
        ((-9, RESTART_CODE), RESTART_CODE),
    ],
)
def test_a_killed_process_is_distinguished_from_one_that_gave_a_reason(codes, code):
    assert exit_code({rank: SimpleNamespace(exitcode=one) for rank, one in enumerate(codes)}) == code


@pytest.mark.parametrize(("line", "code"), [("exit 4", 4), ("kill -KILL $BASHPID", 137), ("exit 0", 0)])
def test_torchrun_ends_as_its_processes_ended(line, code):
    done = subprocess.run(
        [*LAUNCH, "--no-python", "bash", "-c", line], env=ENVIRONMENT, capture_output=True, timeout=120
    )
    assert done.returncode == code, done.stderr.decode()


def test_it_runs_again_for_what_is_left_in_the_same_session(tmp_path):
    runs = tmp_path / "runs"
    script = f'echo "$SEG_TRANSFER_SESSION" >>{runs}; [ $(wc -l <{runs}) -ge 3 ] || exit {RESTART_CODE}; exit 4'
    done = subprocess.run(
        [*LAUNCH, "--no-python", "bash", "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 4, done.stderr
    first, *others = runs.read_text().split()
    assert others == [first, first]


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_stopped_without_a_traceback_and_stops_its_processes(tmp_path):
    script = f"echo $BASHPID >{tmp_path}/process; exec sleep 100"
    process = subprocess.Popen([*LAUNCH, "--no-python", "bash", "-c", script], env=ENVIRONMENT, stderr=subprocess.PIPE)
    while not (tmp_path / "process").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert (process.returncode, b"Traceback" in said) == (143, False)
    child, end = int((tmp_path / "process").read_text()), time.monotonic() + 120
    # On a busy machine, a process that was killed may still take a moment to end.
    while is_there(child):
        assert time.monotonic() < end
        time.sleep(0.02)
