"""What the processes of one command know of each other: environment variables, and events on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from seg_transfer.store.lease import SESSION

# Set where the process that started this one holds its stdin open, reads its events, and says what failed.
ATTACHED = "SEG_TRANSFER_ATTACHED"
# "2/8": which of them this is. Each begins at another item, so that they seldom compete.
WORKER = "SEG_TRANSFER_WORKER"
# Begins a line on stdout that is for the process which started this one.
EVENT = "\x1e"


def session() -> str:
    """The session of this process; "" when it has none."""
    return os.environ.get(SESSION, "")


def is_worker() -> bool:
    """Whether another process started this one to do a share of its work: one of an engine's, or torchrun."""
    return bool(session()) or "LOCAL_RANK" in os.environ


def attached() -> bool:
    """Whether the process that started this one reads its events."""
    return bool(os.environ.get(ATTACHED))


def worker() -> tuple[int, int]:
    """The number of this process in its session, and how many there are."""
    number, _, of = os.environ.get(WORKER, "0/1").partition("/")
    return int(number), int(of)


def exit_with_parent() -> None:
    """End this process when the one that started it ends, which closes its stdin. Files are complete at any time."""
    if not attached():
        return

    def wait() -> None:
        while os.read(0, 1024):  # not by way of sys.stdin, whose lock must be free when the process ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def announce(**event: object) -> None:
    """Report progress to the process that started this one."""
    if attached() and os.environ.get("RANK", "0") == "0":
        print(EVENT + json.dumps(event), file=sys.stdout, flush=True)
