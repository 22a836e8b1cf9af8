"""Output of the command line: log records as plain lines, and tables of untrusted text."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING

from seg_transfer.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

_PREFIX = "seg-transfer: "
# Pass this as ``extra=`` to a log call to show the record from any process, not only from the main process.
EVERY_PROCESS = {"every_process": True}
# Pass this as ``extra=`` to show information on stderr, also where a table or JSON takes stdout.
ON_STDERR = {"on_stderr": True}


class _LineHandler(logging.Handler):
    """Prints one line per record: information on stdout, warnings and errors on stderr with the command's name.

    Under torchrun, only the main process prints; tracebacks are printed by all.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        has_traceback = bool(record.exc_info and record.exc_info[0])
        if os.environ.get("RANK", "0") != "0" and not (has_traceback or getattr(record, "every_process", False)):
            return
        line = printable(record.getMessage())
        if record.exc_info and has_traceback:
            text = "".join(traceback.format_exception(*record.exc_info))
            print(f"{line}\n{text}", end="", file=sys.stderr, flush=True)
            return
        if record.levelno < logging.WARNING:
            print(line, file=sys.stderr if _is_on_stderr(record) else sys.stdout, flush=True)
        else:
            print(f"{_PREFIX}{line}", file=sys.stderr, flush=True)


@contextmanager
def console_logging(*, debug: bool = False) -> Iterator[None]:
    """Show the package's log on stdout and stderr for the duration of a block.

    Args:
        debug: Whether to show the traceback of every failed item.
    """
    logger, handler = logging.getLogger("seg_transfer"), _LineHandler()
    if any(isinstance(existing, _LineHandler) for existing in logger.handlers):  # a command that runs another command
        yield
        return
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    # The code of a user's model may configure the root logger, which would print every line again.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def warnings_only() -> Iterator[None]:
    """Hide log records of level INFO for the duration of a block that shows a table or a progress bar instead."""
    handlers = [handler for handler in logging.getLogger("seg_transfer").handlers if isinstance(handler, _LineHandler)]
    for handler in handlers:
        handler.addFilter(_is_not_information)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_not_information)


@contextmanager
def silent_stdout() -> Iterator[None]:
    """Discard what a block prints on stdout, including the output of other processes that it passes on."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _is_not_information(record: logging.LogRecord) -> bool:
    return record.levelno != logging.INFO or _is_on_stderr(record)


def _is_on_stderr(record: logging.LogRecord) -> bool:
    return getattr(record, "on_stderr", False)


def last_error_line(stderr: str) -> str:
    """Return the last line that a command logged as an error; libraries may have printed more after it."""
    logged = [line.removeprefix(_PREFIX) for line in stderr.splitlines() if line.startswith(_PREFIX)]
    return logged[-1] if logged else ""


def plain_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """Create a console for tables, on stdout by default, that shows text literally.

    Names and paths come from outside, so ``:one:`` must not become an emoji, nor ``[bold]`` markup.
    """
    from rich.console import Console

    return Console(file=file, width=width, emoji=False, markup=False)
