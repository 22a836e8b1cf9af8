"""Scores pairs in threads while the network observes the next ones, within a bound on memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from seg_transfer.stages.base import Rest

_of_thread = threading.local()


class InFlight:
    """Counts the bytes of the pairs that were observed and are not scored yet."""

    def __init__(self) -> None:
        self._n_bytes = 0
        self._changed = threading.Condition()
        self._waited = 0.0

    @property
    def n_bytes(self) -> int:
        """The bytes of all pairs in flight."""
        return self._n_bytes

    def clock(self) -> float:
        """Return seconds of a clock that stands still in `wait_until`."""
        return time.monotonic() - self._waited

    def wait_until(self, n_bytes: int) -> None:
        """Wait until at most this many bytes are in flight, or none where the number is negative."""
        began = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._n_bytes <= max(n_bytes, 0))
        self._waited += time.monotonic() - began

    def add(self, n_bytes: int) -> None:
        """Add the bytes of a pair, or with a minus sign take them away."""
        with self._changed:
            self._n_bytes += n_bytes
            self._changed.notify_all()


def in_flight(rest: Rest, n_bytes: int, counted: InFlight, device: str) -> Rest:
    """Count the observations of a pair from now on until the rest of its work is done.

    Args:
        rest: Scores the pair; runs once, in a thread.
        n_bytes: Size of its observations.
        counted: Where they are counted.
        device: Device that the observations lie on.
    """

    def do() -> None:
        try:
            with _own_stream(device):
                rest()
        finally:
            counted.add(-n_bytes)

    counted.add(n_bytes)
    return do


@contextlib.contextmanager
def _own_stream(device: str) -> Iterator[None]:
    """Let what a thread computes on a GPU run beside the network, rather than after all that is queued for it."""
    if not device.startswith("cuda"):
        yield
        return
    import torch

    # One per thread: torch keeps memory for every stream that multiplied matrices.
    if not hasattr(_of_thread, "stream"):
        _of_thread.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream = _of_thread.stream
    stream.wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.stream(stream):
        try:
            yield
        finally:
            stream.synchronize()  # the observations' memory goes back to the network when this thread drops them
