"""Runs the rests of items in threads, while the next items are begun."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from seg_transfer.errors import SegTransferError
from seg_transfer.stages.base import Rest
from seg_transfer.stages.failures import catch_failures

Failed = Mapping[str, SegTransferError]


class Rests:
    """The rests of the items that were begun, one thread per core that this process may use.

    BLAS computes on one thread while there are rests, so that they share the cores, and so that no score depends on
    what else runs. As a context manager, this waits at the end for the rests that run, and drops those that do not yet.
    """

    def __init__(self) -> None:
        self._running: dict[Future[dict[str, SegTransferError]], tuple[contextlib.ExitStack, Callable[[Failed], None]]]
        self._running = {}
        self._started = contextlib.ExitStack()
        self._pool: ThreadPoolExecutor | None = None
        self._n_threads = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for future in self._running:
            future.cancel()
        with contextlib.ExitStack() as leases:
            for held, _ in self._running.values():
                leases.push(held)
            self._started.close()  # waits; the rests that run keep their leases until they end

    def start(self, rest: Rest, label: str, held: contextlib.ExitStack, ended: Callable[[Failed], None]) -> None:
        """Start the rest of an item.

        Args:
            rest: What is left to do.
            label: Name of the item in messages.
            held: Holds its lease; closed when the item has ended.
            ended: Called with its failures when it has ended, by the thread that calls `wait`.
        """
        if self._pool is None:
            self._pool = self._start_threads()
        self._running[self._pool.submit(catch_failures, rest, label)] = held, ended

    def wait_for_thread(self) -> None:
        """Wait until every rest has a thread: one more item may then be begun, whose rest may have to wait."""
        self._wait(self._n_threads)

    def wait_for_all(self) -> None:
        """Wait until all rests have ended."""
        self._wait(0)

    def _wait(self, n_left: int) -> None:
        while True:
            for future in [future for future in self._running if future.done()]:
                held, ended = self._running.pop(future)
                with held:
                    ended(future.result())
            if len(self._running) <= n_left:
                return
            wait(self._running, return_when=FIRST_COMPLETED)

    def _start_threads(self) -> ThreadPoolExecutor:
        import torch
        from threadpoolctl import threadpool_limits

        self._n_threads = torch.get_num_threads()
        self._started.enter_context(threadpool_limits(1, user_api="blas"))
        return self._started.enter_context(ThreadPoolExecutor(self._n_threads, "rest"))
