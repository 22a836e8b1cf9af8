"""A torchrun that exits with the code of the process that failed: ``python -m seg_transfer.training.launch``.

torchrun itself always exits with 1, which does not distinguish a wrong study from a killed process. If one process
fails while others wait for it, the item counts as failed, and new processes continue with the remaining items.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from seg_transfer.store.lease import SESSION

RESTART_CODE = 75
"""Exit code of a process that reported its failed item and cannot continue with those it trains with."""


def launch_command(arguments: Sequence[str], processes: int) -> list[str]:
    """Return the command that runs ``seg-transfer ARGUMENTS`` in processes that train together."""
    # Without an address, torchrun would look up this machine by its name, which not every network resolves.
    node = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    launcher = ["-m", "seg_transfer.training.launch", *node]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "seg_transfer", *arguments]


def signal_of(code: int) -> int:
    """Return the signal that killed a process of `launch_command`, or one of its children; 0 if none was killed."""
    return -code if code < 0 else max(code - 128, 0)


class _Failure(Protocol):
    exitcode: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run torchrun, again for the remaining items if needed, and exit with the code of its children.

    Args:
        arguments: Arguments of torchrun; by default those of the command line.
    """
    # All runs share a session, so that an item that failed in one of them is not tried again.
    os.environ.setdefault(SESSION, uuid.uuid4().hex)
    # The process that failed reports the reason in one line; torchrun's own log would repeat it in many.
    os.environ.setdefault("LOGLEVEL", "CRITICAL")
    words = list(sys.argv[1:] if arguments is None else arguments)
    while (code := _run(words)) == RESTART_CODE:
        pass
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(arguments)
    except ChildFailedError as error:
        return exit_code(error.failures)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def exit_code(failures: Mapping[int, _Failure]) -> int:
    """Choose the exit code for the failures of several processes.

    Args:
        failures: Rank -> failure with an ``exitcode``, negative for a signal.

    Returns:
        `RESTART_CODE` if a process exited with it. Otherwise 128 + the signal if one was killed, because the others
        fail as a consequence. Otherwise the highest code. torchrun stops the others with SIGTERM, which counts
        only if there is no other reason.
    """
    codes = [failure.exitcode for failure in failures.values()]
    causes = [code for code in codes if code != -signal.SIGTERM] or codes
    if RESTART_CODE in causes:
        return RESTART_CODE
    killed = [128 - code for code in causes if code < 0]
    return min(killed) if killed else max(causes)


if __name__ == "__main__":
    main()
