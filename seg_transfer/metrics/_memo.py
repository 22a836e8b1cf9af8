"""What several metrics of one pair compute only once, beside the moments."""

from collections.abc import Callable, Hashable
from typing import TypeVar

from seg_transfer.metrics._base import Statistics

T = TypeVar("T")


def remembered(statistics: Statistics, key: Hashable, compute: Callable[[], T]) -> T:
    """Return what was computed under this key for these statistics before, and compute it otherwise."""
    if key not in statistics.memo:
        statistics.memo[key] = compute()
    result: T = statistics.memo[key]
    return result
