"""A training on a Ray cluster that several processes of one node share, by torchrun."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence

from seg_transfer.console import last_error_line
from seg_transfer.errors import failure_with_code
from seg_transfer.store.lease import MAX_CRASHES
from seg_transfer.training.launch import launch_command, signal_of


def train_together(*, arguments: Sequence[str], processes: int) -> None:
    """Run a command of one training in so many processes; again, from its checkpoint, when one of them is killed.

    The item's lease counts the crashes, and ends the repetition.

    Raises:
        SegTransferError: The command failed, with its last line and its exit code.
    """
    for _ in range(MAX_CRASHES + 1):
        code, reason = _run(arguments, processes)
        if not signal_of(code):
            break
    if code:
        raise failure_with_code(reason or f"ended with exit code {code}", code)


def _run(arguments: Sequence[str], processes: int) -> tuple[int, str]:
    """Exit code and last line on stderr; what is printed on stdout is passed on."""
    with tempfile.TemporaryFile("w+") as errors:
        # They end by themselves when their stdin is closed, as it is when this process is killed.
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
