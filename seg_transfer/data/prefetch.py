"""Computes the next few results in threads while the caller works on the last one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def prefetch(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int = 2, ahead: int = 4
) -> Iterator[_Result]:
    """Work like `map`, but compute the next few results in threads while the caller works on the last one.

    Args:
        function: Called in threads, such as one that decodes an image.
        items: Its arguments; only a few are consumed in advance.
        threads: Number of threads.
        ahead: Number of results beyond the current one that may be computed or under way.

    Returns:
        The results, in the order of the items. An exception of `function` is raised in place of its result.

    Example:
        >>> list(prefetch(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[_Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
