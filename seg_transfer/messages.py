"""What a stage says to its user: one line at a time, from the main process alone when torchrun started several."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING

from seg_transfer.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

_PREFIX = "seg-transfer: "


def say(line: str) -> None:
    """Tell on stdout what was done."""
    if os.environ.get("RANK", "0") == "0":
        print(printable(line), flush=True)


def complain(line: str) -> None:
    """Say on stderr what the user has to mend."""
    if os.environ.get("RANK", "0") == "0":
        complain_anyway(line)


def complain_anyway(line: str) -> None:
    """The same from whichever process it is, when the main one cannot say it."""
    print(f"{_PREFIX}{printable(line)}", file=sys.stderr, flush=True)


def last_reason(stderr: str) -> str:
    """The last thing that a command complained of; libraries may have printed after it."""
    said = [line.removeprefix(_PREFIX) for line in stderr.splitlines() if line.startswith(_PREFIX)]
    return said[-1] if said else ""


def plain_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for tables, on stdout by default. It shows text as it is: in names and paths from outside ``:one:`` is
    no emoji and ``[bold]`` no markup.
    """
    from rich.console import Console

    return Console(file=file, width=width, emoji=False, markup=False)
