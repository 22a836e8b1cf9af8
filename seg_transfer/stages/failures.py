"""One failed item of many stops no other: what failed is collected, reported once, and raised at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from seg_transfer.errors import IncompleteError, SegTransferError, as_failure

Item = TypeVar("Item")
_logger = logging.getLogger(__name__)


class PartsFailedError(SegTransferError):
    """Parts of an item failed, and the others are kept; ``parts``: what failed and why."""

    def __init__(self, parts: Mapping[str, SegTransferError]) -> None:
        super().__init__("; ".join(map(str, parts.values())))
        self.parts = dict(parts)


class Failures:
    """What failed in a stage. Each reason is logged once, in one line; the stage ends with all of them."""

    def __init__(self) -> None:
        self._failed: dict[str, str] = {}
        self._exit_codes: dict[str, int] = {}

    def add(self, failures: Mapping[str, SegTransferError], *, log: bool = True) -> None:
        """Record what failed and why; without `log` where another process logged it."""
        for label, error in failures.items():
            self._failed[label] = str(error)
            if log and str(error) not in self._exit_codes:
                _logger.error("%s: %s", label, error)
            self._exit_codes[str(error)] = error.exit_code

    def raise_if_any(self) -> None:
        """Raise IncompleteError when something failed. The exit code is that of the reasons when they agree."""
        raise_if_failed(self._failed, set(self._exit_codes.values()))


def raise_if_failed(failed: Mapping[str, str], codes: set[int]) -> None:
    """Raise IncompleteError when something failed: items, and the reason of each."""
    if failed:
        raise IncompleteError(
            f"failed: {', '.join(failed)}; all others are finished and kept, fix the cause and run the same command "
            "again",
            exit_code=codes.pop() if len(codes) == 1 else None,
            reasons=failed,
        )


def for_each(items: Iterable[Item], work: Callable[[Item], None], label: Callable[[Item], str]) -> None:
    """Do the work for every item, even when others fail.

    Raises:
        IncompleteError: At the end, when items failed. Each reason was logged once, in one line.
    """
    failures = Failures()
    for item in items:
        failures.add(failures_of(partial(work, item), label(item)))
    failures.raise_if_any()


def failures_of(work: Callable[[], None], label: str) -> dict[str, SegTransferError]:
    """Do the work for one item; returns what failed of it and why.

    Any exception of its network, metric or library is the item's own failure. Only an OSError, such as of a full disk,
    is a fault of the machine, and is raised: the same item may succeed later.
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
