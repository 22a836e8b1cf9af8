"""torchrun that ends with the exit code of the process that failed: ``python -m seg_transfer.training.launch``.

torchrun itself ends with 1 whatever happened, so that nobody could tell a wrong study from a killed process. Where one
process failed while others waited for it, the item is given up, and new processes go on with what is left.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from seg_transfer.store.lease import SESSION

GO_ON = 75
"""Exit code of a process that left word of what failed of its item, and cannot go on with those it trains with."""


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
    """Take torchrun's arguments, run it, again for what is left where it must, and end as its children ended."""
    # The processes of all runs do not try again what failed in one of them.
    os.environ.setdefault(SESSION, uuid.uuid4().hex)
    # What failed is said in one line by the process that failed.
    os.environ.setdefault("LOGLEVEL", "CRITICAL")
    words = list(sys.argv[1:] if arguments is None else arguments)
    while (code := _run(words)) == GO_ON:
        pass
    sys.exit(code)


def _run(words: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(words)
    except ChildFailedError as error:
        return exit_code(error.failures)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def exit_code(failures: Mapping[int, _Failure]) -> int:
    """`GO_ON` where one ended with it; else 128 + the signal where one was killed, for its death is why others fail;
    else the highest code. torchrun stops the others with SIGTERM: that is a reason only where there is no other.
    """
    codes = [failure.exitcode for failure in failures.values()]
    own = [code for code in codes if code != -signal.SIGTERM] or codes
    if GO_ON in own:
        return GO_ON
    killed = [128 - code for code in own if code < 0]
    return min(killed) if killed else max(own)


if __name__ == "__main__":
    main()
