"""The exit code of several processes that train together."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from seg_transfer.training.launch import exit_code


@pytest.mark.parametrize(
    ("codes", "code"),
    [((3,), 3), ((3, 3), 3), ((1, 9), 9), ((-9,), 137), ((1, -9), 137), ((-9, 3), 137), ((-15, -9), 143)],
)
def test_a_killed_process_is_told_from_one_that_gave_a_reason(codes, code):
    assert exit_code({rank: SimpleNamespace(exitcode=one) for rank, one in enumerate(codes)}) == code


@pytest.mark.parametrize(("line", "code"), [("exit 4", 4), ("kill -KILL $BASHPID", 137), ("exit 0", 0)])
def test_torchrun_ends_as_its_processes_ended(line, code):
    command = [sys.executable, "-m", "seg_transfer.training.launch", "--standalone", "--nproc-per-node=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--no-python", "bash", "-c", line], env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == code, done.stderr.decode()
