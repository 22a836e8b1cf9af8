"""Computes the next few results in threads while the caller works on the last one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_THREADS = 2
_MAX_PENDING = 4


def prefetch(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Work like `map`, but compute the next few results in threads while the caller works on the last one.

    Args:
        function: Called in threads, such as one that decodes an image.
        items: Its arguments; only a few are consumed in advance.

    Returns:
        The results, in the order of the items. An exception of `function` is raised in place of its result.

    Example:
        >>> list(prefetch(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        pending: deque[Future[_Result]] = deque()
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) > _MAX_PENDING:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
