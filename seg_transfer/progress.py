"""Progress display with the remaining time: a bar on a terminal, otherwise one line every 30 seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from seg_transfer.console import plain_console

Tick = Callable[[int, int], None]
_SECONDS_BETWEEN_LINES = 30.0
_has_bar: ContextVar[bool] = ContextVar("has_bar", default=False)


@contextlib.contextmanager
def progress_of(title: str, console: Console | None = None) -> Iterator[Tick]:
    """Yield a function to call with the numbers of finished steps and of all steps; it prints to stderr."""
    shown = console or plain_console(sys.stderr)
    if not shown.is_terminal or _has_bar.get():  # two bars would overwrite each other
        yield _line_printer(title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown, transient=True) as bars:
        bar, token = bars.add_task(title, total=None), _has_bar.set(True)
        try:
            yield lambda done, total: bars.update(bar, completed=done, total=total)
        finally:
            _has_bar.reset(token)


def _line_printer(title: str) -> Tick:
    began = last = time.monotonic()
    first: int | None = None

    def tick(done: int, total: int) -> None:
        nonlocal last, first
        first = done if first is None else first  # a resumed run does not begin at 0
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES or done in (first, total):
            return
        last = now
        left = (now - began) / (done - first) * (total - done)
        print(f"{title}: {done}/{total}, {left:.0f} s left", file=sys.stderr, flush=True)

    return tick
