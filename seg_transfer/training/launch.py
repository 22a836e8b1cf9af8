"""torchrun that ends with the exit code of the process that failed: ``python -m seg_transfer.training.launch``.

torchrun itself ends with 1 whatever happened, so that nobody could tell a wrong study from a killed process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Protocol


def command(words: Sequence[str], processes: int) -> list[str]:
    """What starts ``seg-transfer WORDS`` in so many processes that train together; in one without torchrun."""
    # The address: torchrun would have the processes look for this machine by its name, which not every network knows.
    node = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    launcher = ["-m", "seg_transfer.training.launch", *node]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "seg_transfer", *words]


def signal_of(code: int) -> int:
    """The signal that killed a process of `command`, or one that it started; 0 where none was killed."""
    return -code if code < 0 else max(code - 128, 0)


class _Failure(Protocol):
    exitcode: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Take torchrun's arguments, run it, and end the process as its children ended."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(list(sys.argv[1:] if arguments is None else arguments))
    except ChildFailedError as error:
        sys.exit(exit_code(error.failures))
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)


def exit_code(failures: Mapping[int, _Failure]) -> int:
    """128 + the signal where a process was killed, for its death is why others fail; else the highest code.

    Of several signals the lowest: torchrun stops the others with SIGTERM, which is higher than those that kill.
    """
    codes = [failure.exitcode for failure in failures.values()]
    killed = [128 - code for code in codes if code < 0]
    return min(killed) if killed else max(codes)


if __name__ == "__main__":
    main()
