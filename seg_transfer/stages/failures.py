"""Keeps one failed item from stopping the others: failures are collected, logged once, and raised at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from seg_transfer.errors import IncompleteError, SegTransferError, as_failure

Item = TypeVar("Item")
_logger = logging.getLogger(__name__)


class PartsFailedError(SegTransferError):
    """Some parts of an item failed; the others are kept. ``parts`` maps each failed part to its error."""

    def __init__(self, parts: Mapping[str, SegTransferError]) -> None:
        super().__init__("; ".join(map(str, parts.values())))
        self.parts = dict(parts)


class Failures:
    """Collects the failures of a stage. Each reason is logged once, in one line."""

    def __init__(self) -> None:
        self._failed: dict[str, str] = {}
        self._exit_codes: dict[str, int] = {}

    def add(self, failures: Mapping[str, SegTransferError], *, log: bool = True) -> None:
        """Add failures by label; pass ``log=False`` if another process has already logged them."""
        for label, error in failures.items():
            self._failed[label] = str(error)
            if log and str(error) not in self._exit_codes:
                _logger.error("%s: %s", label, error)
            self._exit_codes[str(error)] = error.exit_code

    def raise_if_any(self) -> None:
        """Raise IncompleteError if anything failed, with the exit code that all reasons share, if they do."""
        raise_if_failed(self._failed, set(self._exit_codes.values()))


def raise_if_failed(failed: Mapping[str, str], codes: set[int]) -> None:
    """Raise IncompleteError if anything failed; `failed` maps each item to its reason."""
    if failed:
        raise IncompleteError(
            f"failed: {', '.join(failed)}; all others are finished and kept; fix the cause and run the same command "
            "again",
            exit_code=codes.pop() if len(codes) == 1 else None,
            reasons=failed,
        )


def for_each(items: Iterable[Item], work: Callable[[Item], None], label: Callable[[Item], str]) -> None:
    """Do the work for every item, even when others fail.

    Raises:
        IncompleteError: At the end, if items failed. Each reason was logged once, in one line.
    """
    failures = Failures()
    for item in items:
        failures.add(catch_failures(partial(work, item), label(item)))
    failures.raise_if_any()


def catch_failures(work: Callable[[], None], label: str) -> dict[str, SegTransferError]:
    """Do the work for one item; returns the failed parts and their errors, or {} on success.

    Any exception of a network, metric or library counts as a failure of the item. Only an OSError, such as from a full
    disk, is a fault of the machine and is raised, because the same item may succeed later.
    """
    try:
        work()
    except PartsFailedError as error:
        return error.parts
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        _logger.debug("%s", label, exc_info=True)
        return {label: as_failure(error)}
    return {}
