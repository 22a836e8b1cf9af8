"""What the processes that one command started know of each other: variables, and events on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from seg_transfer.store.lease import SESSION

# Set where the process that started this one holds its stdin open, reads its events, and says what failed.
ATTACHED = "SEG_TRANSFER_ATTACHED"
# "2/8": which of them this is. Each begins at another place, so that they seldom meet.
WORKER = "SEG_TRANSFER_WORKER"
# Begins a line on stdout that is for the process which started this one.
EVENT = "\x1e"


def session() -> str:
    """The session of this process; "" when it has none."""
    return os.environ.get(SESSION, "")


def attached() -> bool:
    """Whether the process that started this one listens to it."""
    return bool(os.environ.get(ATTACHED))


def worker() -> tuple[int, int]:
    """The number of this process in its session, and how many there are."""
    number, _, of = os.environ.get(WORKER, "0/1").partition("/")
    return int(number), int(of)


def end_with_starter() -> None:
    """End this process when the one that started it is gone: its stdin is closed then. Files are whole at any time."""
    if not attached():
        return

    def wait() -> None:
        while os.read(0, 1024):  # not by way of sys.stdin, whose lock must be free when the process ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def announce(**event: object) -> None:
    """Tell the process that started this one how far it is."""
    if attached() and os.environ.get("RANK", "0") == "0":
        print(EVENT + json.dumps(event), file=sys.stdout, flush=True)


def place_words(study_file: Path, data_root: Path, folder: Path) -> list[str]:
    """The words by which a command in another working directory finds the same study, data and run folder."""
    return [str(study_file.resolve()), "--data-root", str(data_root.resolve()), "--run-folder", str(folder.resolve())]
