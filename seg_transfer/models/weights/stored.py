"""What pickles hold, as data: records of tensors and storages, and inert stubs of all other objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_MAX_INTEGER = 1 << 60
"""Larger ones are no sizes, and no keys: Python hashes integers modulo 2**61 - 1, so a file could make all collide."""
_MAX_DIMENSIONS = 64
_MAX_NAME = 200

_TENSOR = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETER = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_SUBCLASS = {"torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"}
_DICT = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"}


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function that a pickle names; only its dotted name is kept."""

    name: str


@dataclass(eq=False, repr=False)
class Stub:
    """An object of any class, as data: the name of what would create it, the arguments, the state and the items."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[str | int, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Storage:
    """A storage of a torch file.

    Attributes:
        kind: Name of its class, such as "FloatStorage".
        key: Its key in the file.
        numel: Number of its elements.
        start: Index of its first element in what the file stores under the key.
    """

    kind: str
    key: str
    numel: int
    start: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class StoredTensor:
    """A strided tensor: a view of a storage.

    Attributes:
        storage: The storage, or a stub where another torch file is embedded.
        offset: Index of the first element in the storage.
        shape: Sizes of the dimensions.
        stride: Strides of the dimensions, in elements.
        dtype: Name of the dtype; None means the storage's own.
    """

    storage: Storage | Stub
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


def named(name: object) -> Global:
    """Return the record of a global; names are short, because a file may repeat them."""
    return Global(name if isinstance(name, str) and len(name) <= _MAX_NAME else "?")


def is_key(key: object) -> bool:
    """Whether items under this key of a dict are kept: text and usual integers, as names of weights are."""
    return isinstance(key, str) or (isinstance(key, int) and abs(key) < _MAX_INTEGER)


def created(function: object, args: object) -> Any:
    """Return what a call stands for: a record of a tensor, a dict, or else a stub. Nothing is called.

    Args:
        function: What a pickle calls, usually a `Global`.
        args: The arguments.

    Raises:
        ValueError, TypeError, IndexError: The arguments of a tensor are impossible.
    """
    if not isinstance(args, tuple):
        raise TypeError
    name = function.name if isinstance(function, Global) else "?"
    if name in _SUBCLASS and isinstance(args[0], Global) and isinstance(args[2], tuple):
        name, args = args[0].name, args[2]
    if name in _TENSOR:
        return _stored_tensor(*args[:4], dtype=args[6] if name.endswith("_v3") else None)
    if name in _PARAMETER:
        return args[0]
    # Contents are never copied: a file could have a long list copied a million times.
    if name in _DICT and not any(isinstance(argument, list) for argument in args[:1]):
        return args[0] if args and isinstance(args[0], dict) else {}
    return args[0] if name == "torch.Size" else Stub(name, args)


def storage_of(mark: object) -> Any:
    """Return what a persistent id stands for: a storage, or the class of a module.

    Args:
        mark: ``("storage", class, key, device, elements)``, in old files with a view
            ``(key, start, elements)`` or None at the end, or ``("module", class, file, source)``.

    Raises:
        ValueError, TypeError, IndexError: It is neither.
    """
    if not isinstance(mark, tuple) or mark[0] not in ("storage", "module"):
        raise ValueError("a reference to something outside the file")
    if mark[0] == "module":
        return mark[1]
    kind, key, _, numel = mark[1:5]
    start = 0
    if len(mark) > 5 and mark[5] is not None:
        _, start, numel = mark[5]
    if not isinstance(key, str) or not _are_sizes(start, numel):
        raise ValueError("a storage of an impossible size")
    return Storage(kind.name.rpartition(".")[2] if isinstance(kind, Global) else "?", key, numel, start)


def bytes_of(value: object) -> bytes | None:
    """Return bytes, which old protocols of pickle write as text; None for anything else."""
    if isinstance(value, Stub) and value.name == "_codecs.encode" and value.args:
        text = value.args[0]
        return text.encode("latin-1") if isinstance(text, str) else None
    return bytes(value) if isinstance(value, bytes | bytearray) else None


def _stored_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *, dtype: Any = None) -> StoredTensor:
    if not isinstance(storage, Storage | Stub) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise TypeError
    if not len(shape) == len(stride) <= _MAX_DIMENSIONS or not _are_sizes(offset, *shape, *stride):
        raise ValueError("a tensor of an impossible shape")
    return StoredTensor(
        storage, offset, shape, stride, dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else None
    )


def _are_sizes(*numbers: object) -> bool:
    return all(isinstance(number, int) and 0 <= number < _MAX_INTEGER for number in numbers)
