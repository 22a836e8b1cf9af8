"""A bound on the memory that a network takes while it is built: a few numbers in a config can ask for any amount."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_transfer.errors import ComputationError, ConfigError, is_out_of_memory, reason_of
from seg_transfer.models.files import size_of_weights

if TYPE_CHECKING:
    from torch import Tensor

# A network has about as many numbers as its weights file. They may be stored in half precision, and lie in memory
# several times while they are read and converted; small networks need some memory for libraries and activations.
_PER_BYTE, _AT_LEAST = 8, 4 << 30
# Every parameter has its name in the file, with its place and its shape; a network may be built more than once. Heads
# that are built and replaced, such as those of VGG, have up to some hundred million numbers.
_BYTES_PER_NAME, _MORE_NAMES, _MORE_NUMBERS = 16, 1000, 1 << 28
_LARGEST_NUMBER = 1 << 24
_PAGES = Path("/proc/self/statm")


def refuse_large_numbers(description: object, origin: str) -> None:
    """Raise ConfigError where a description of a network has a whole number that is no size and no count of anything.

    Libraries compute with such numbers before they make any layer.
    """
    pending = [description]
    while pending:
        value = pending.pop()
        if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            raise ConfigError(
                f"{origin}: its description has the number {value!r:.80}, and sizes of networks are at most "
                f"{_LARGEST_NUMBER}; copy it again"
            )
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value


@contextlib.contextmanager
def bounded_memory(origin: str, weights: Iterable[Path]) -> Iterator[None]:
    """Within the context, the process may grow by a few times the size of weights, where the system can limit that.

    Args:
        origin: What is built, for messages.
        weights: The files of its weights; without any, there is no bound.

    Raises:
        ComputationError: More is asked for.
    """
    sizes = [size_of_weights(file) for file in weights if file.is_file()]
    if not sizes:
        yield
        return
    try:
        with _bounds(sum(sizes)):
            yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ComputationError(
            f"{origin}: its description asks for more memory than a network of its weights takes "
            f"({reason_of(error)}); check its sizes, or use a machine with more memory"
        ) from error


@contextlib.contextmanager
def _bounds(n_bytes: int) -> Iterator[None]:
    from torch.nn.modules.module import register_module_parameter_registration_hook

    counted = {"parameters": 0, "numbers": 0}

    def count(_module: object, _name: str, parameter: Tensor | None) -> None:
        if parameter is None:
            return
        counted["parameters"] += 1
        counted["numbers"] += parameter.numel()
        if counted["parameters"] > n_bytes // _BYTES_PER_NAME + _MORE_NAMES:
            raise MemoryError(f"more than {counted['parameters'] - 1} parameters")
        if counted["numbers"] > n_bytes + _MORE_NUMBERS:
            raise MemoryError(f"parameters of {counted['numbers']} numbers")

    handle = register_module_parameter_registration_hook(count)
    try:
        with _limited(_AT_LEAST + _PER_BYTE * n_bytes):
            yield
    finally:
        handle.remove()


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
