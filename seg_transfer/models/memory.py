"""A bound on the memory that a network takes while it is built: a few numbers in a config can ask for any amount."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seg_transfer.errors import ComputationError, is_out_of_memory, reason_of

# A network has about as many numbers as its weights file. They may be stored in half precision, and lie in memory
# several times while they are read and converted; small networks need some memory for libraries and activations.
_PER_BYTE, _AT_LEAST = 8, 4 << 30
_PAGES = Path("/proc/self/statm")


@contextlib.contextmanager
def bounded_memory(origin: str, weights: Iterable[Path]) -> Iterator[None]:
    """Within the context, the process may grow by a few times the size of weights, where the system can limit that.

    Args:
        origin: What is built, for messages.
        weights: The files of its weights; without any, there is no bound.

    Raises:
        ComputationError: More is asked for.
    """
    sizes = [file.stat().st_size for file in weights if file.is_file()]
    try:
        with _limited(_AT_LEAST + _PER_BYTE * sum(sizes)) if sizes else contextlib.nullcontext():
            yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ComputationError(
            f"{origin}: its description asks for more memory than a network of its weights takes "
            f"({reason_of(error)}); check its sizes, or use a machine with more memory"
        ) from error


@contextlib.contextmanager
def _limited(growth: int) -> Iterator[None]:
    """Limit the memory that the process can write to, on systems that say how much it is."""
    limit = _limit(growth)
    if limit is None:
        yield
        return
    resource, new, old = limit
    resource.setrlimit(resource.RLIMIT_DATA, new)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, old)


def _limit(growth: int) -> tuple[Any, tuple[int, int], tuple[int, int]] | None:
    """Return the module that sets limits, the new one and the old one; None if there is none to set."""
    try:
        resource: Any = importlib.import_module("resource")
        n_pages = int(_PAGES.read_text(encoding="ascii").split()[5])
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, OSError):  # not Linux
        return None
    new = n_pages * resource.getpagesize() + growth
    is_stricter = soft == resource.RLIM_INFINITY or new < soft
    return (resource, (new, hard), (soft, hard)) if is_stricter else None
