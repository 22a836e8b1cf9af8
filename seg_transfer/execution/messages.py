"""What a stage says to its user: one line at a time, from the main process alone when torchrun started several."""

from __future__ import annotations

import os
import sys


def say(line: str) -> None:
    """Tell on stdout what was done."""
    if os.environ.get("RANK", "0") == "0":
        print(line, flush=True)


def complain(line: str) -> None:
    """Say on stderr what the user has to mend."""
    if os.environ.get("RANK", "0") == "0":
        print(f"seg-transfer: {line}", file=sys.stderr, flush=True)
