"""Communication between the processes of one command: environment variables, and events on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from seg_transfer.store.lease import SESSION

# Set if the parent process holds this process's stdin open, reads its events, and reports its failures.
ATTACHED = "SEG_TRANSFER_ATTACHED"
# Index of this process and the number of processes, such as "2/8". Each starts at another item to avoid contention.
WORKER = "SEG_TRANSFER_WORKER"
# The first character of a line on stdout that is meant for the parent process.
EVENT = "\x1e"


def session() -> str:
    """Return the session of this process; "" if it has none."""
    return os.environ.get(SESSION, "")


def is_worker() -> bool:
    """Whether an engine or torchrun started this process to do a share of the work."""
    return bool(session()) or "LOCAL_RANK" in os.environ


def is_attached() -> bool:
    """Whether the parent process reads the events of this process."""
    return bool(os.environ.get(ATTACHED))


def worker_index_and_count() -> tuple[int, int]:
    """Return the index of this process in its session, and the number of processes."""
    index, _, count = os.environ.get(WORKER, "0/1").partition("/")
    return int(index), int(count)


def exit_with_parent() -> None:
    """End this process when its parent ends and closes its stdin; files are never left incomplete."""
    if not is_attached():
        return

    def wait() -> None:
        while os.read(0, 1024):  # does not use sys.stdin, whose lock must be free when the process ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def report_event(**event: object) -> None:
    """Report an event to the parent process."""
    if is_attached() and os.environ.get("RANK", "0") == "0":
        print(EVENT + json.dumps(event), file=sys.stdout, flush=True)
