"""Trains on a Ray cluster with several processes on one node, which torchrun starts."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence

from seg_transfer.console import last_error_line
from seg_transfer.errors import failure_with_code
from seg_transfer.store.lease import MAX_CRASHES
from seg_transfer.training.launch import launch_command, signal_of


def run_distributed(*, arguments: Sequence[str], processes: int) -> None:
    """Run the command of a training in several processes; if one is killed, run it again from the last checkpoint.

    The item's lease counts the crashes and limits the number of restarts.

    Raises:
        SegTransferError: The command failed; carries its last error line and its exit code.
    """
    for _ in range(MAX_CRASHES + 1):
        code, reason = _run(arguments, processes)
        if not signal_of(code):
            break
    if code:
        raise failure_with_code(reason or f"the training ended with exit code {code}", code)


def _run(arguments: Sequence[str], processes: int) -> tuple[int, str]:
    """Run the command once; returns its exit code and last error line, and forwards its stdout."""
    with tempfile.TemporaryFile("w+") as errors:
        # The processes exit when their stdin is closed, which happens when this process is killed.
        process = subprocess.Popen(
            launch_command(arguments, processes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
        errors.seek(0)
        return code, last_error_line(errors.read())
