"""Finding the weights of a network among everything that a checkpoint holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import Tensor

from seg_transfer.errors import CheckpointError, printable
from seg_transfer.models.weights.arrays import StoredArray, array_of
from seg_transfer.models.weights.stored import Storage, StoredTensor, Stub

_MAX_NODES = 1_000_000
_MAX_DEPTH = 40
_INTEGERS = {f"{kind}Storage" for kind in ("Long", "Int", "Short", "Char", "Byte", "Bool")}
_COUNTERS = ("*num_batches_tracked", "n_averaged", "*total_ops", "*total_params")
"""Counters of BatchNorm, of averaged weights, and of a profiler that adds them to every module."""
ROOT = "."
"""The weights key of what a file holds at its top."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MAX_FITS = 50
UNREADABLE = {
    "torch._utils._rebuild_qtensor": "quantized",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "without values, of the device meta",
    "torch._utils._rebuild_wrapper_subclass": "a part of a distributed tensor",
}
"""Function that creates a tensor which is no array of numbers -> what it is."""

Value = StoredTensor | StoredArray | Tensor | Stub


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor in a checkpoint.

    Attributes:
        value: The tensor, or where it is.
        shape: Its shape.
        container: Dotted path of the mapping or module that holds it.
        is_integer: Whether its values are integers.
    """

    value: Value
    shape: tuple[int, ...]
    container: str
    is_integer: bool


@dataclass(frozen=True)
class Fit:
    """A place in a checkpoint where weights of a network are.

    Attributes:
        prefix: What precedes the network's names there: "" or a dotted path that ends with a dot.
        names: Name in the network -> name in the checkpoint, of all that were found.
        missing: Names of the network that are not there and may not be missing.
        misshapen: Names of the network that have another shape there.
        unknown: Names there, without the prefix, that the network lacks.
    """

    prefix: str
    names: Mapping[str, str]
    missing: Sequence[str]
    misshapen: Sequence[str]
    unknown: Sequence[str]

    @property
    def key(self) -> str:
        """What a user writes as ``weights_key``."""
        return self.prefix.removesuffix(".") or ROOT

    @property
    def is_exact(self) -> bool:
        """Whether these are the weights of the network and nothing else."""
        return not (self.missing or self.misshapen or self.unknown)


def find_leaves(content: object) -> dict[str, Leaf]:
    """List the tensors of a checkpoint under their dotted paths, such as ``state_dict.backbone.conv1.weight``.

    Modules that were pickled whole appear under the names of their state dicts.

    Raises:
        ValueError: There are too many objects, or two tensors under one path.
    """
    leaves: dict[str, Leaf] = {}
    waiting = [_Place("", "", False, content, 0)]
    for _ in range(_MAX_NODES):
        if not waiting:
            return leaves
        path, container, in_module, node, depth = waiting.pop()
        value = _tensor(node)
        if value is not None:
            if path in leaves and leaves[path].value is not value:
                raise ValueError(f"two tensors are named {path}")
            shape = () if isinstance(value, Stub) else tuple(value.shape)
            leaves[path] = Leaf(value, shape, container, _is_integer(value))
        elif depth < _MAX_DEPTH:
            own = container if in_module and _is_module(node) else path
            inner = [
                _Place(f"{path}.{name}" if path else str(name), own, _is_module(node), part, depth + 1)
                for name, part in parts(node)
            ]
            waiting += reversed(inner)
    raise ValueError(f"more than {_MAX_NODES:,} objects, or objects that hold themselves")


def only_state_dict(content: object, origin: str) -> dict[str, Leaf]:
    """Find the state dict of a checkpoint without a network: under a usual key, or the only one there is.

    Raises:
        CheckpointError: There is none, or more than one; the message begins with `origin`.
    """
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict | Stub):
            content = content[key]
    leaves = find_leaves(content)
    if "" in leaves:
        raise CheckpointError(f"{origin}: holds a single tensor; expected parameter names with tensors")
    own = {path: leaf for path, leaf in leaves.items() if leaf.container == ""}
    # Optimizers number the parameters whose moments they keep.
    named = {leaf.container for leaf in leaves.values() if not any(map(str.isdecimal, leaf.container.split(".")))}
    containers = [""] if own else sorted(named)
    if not containers:
        raise CheckpointError(
            printable(f"{origin}: holds no weights, but a {_kind(content)}; expected parameter names with tensors")
        )
    if len(containers) > 1:
        raise CheckpointError(
            printable(
                f"{origin}: holds several state dicts ({', '.join(containers)}); save the one that is meant alone"
            )
        )
    start = len(containers[0]) + 1 if containers[0] else 0
    return {path[start:]: leaf for path, leaf in leaves.items() if leaf.container == containers[0]}


def _kind(content: object) -> str:
    return content.name if isinstance(content, Stub) else type(content).__name__


class _Place(NamedTuple):
    path: str
    container: str
    in_module: bool
    node: Any
    depth: int


def parts(node: object) -> Iterator[tuple[str | int, Any]]:
    """Yield the named parts of a dict, a module or another object."""
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, Stub) and _is_module(node):
        yield from _parts_of_module(node.state)
    elif isinstance(node, Stub):
        yield from node.items.items()
        yield from node.state.items() if isinstance(node.state, dict) else ()
        if node.name == "collections.OrderedDict" and node.args and isinstance(node.args[0], list):  # of Python 2
            yield from ((pair[0], pair[1]) for pair in node.args[0] if _is_pair(pair))


def _is_pair(part: object) -> bool:
    return isinstance(part, list | tuple) and len(part) == 2 and isinstance(part[0], str)


def _parts_of_module(state: dict[str | int, Any]) -> Iterator[tuple[str | int, Any]]:
    unsaved = state.get("_non_persistent_buffers_set")
    unsaved = unsaved.args[0] if isinstance(unsaved, Stub) and unsaved.args else unsaved
    left_out = {name for name in unsaved if isinstance(name, str)} if isinstance(unsaved, list) else set()
    for group in ("_parameters", "_buffers", "_modules"):
        for name, part in (state[group] if isinstance(state.get(group), dict) else {}).items():
            if group != "_buffers" or name not in left_out:
                yield name, part


def _is_module(node: object) -> bool:
    return isinstance(node, Stub) and isinstance(node.state, dict) and "_parameters" in node.state


def _tensor(node: object) -> Value | None:
    """Return the tensor that a part of a checkpoint is; None if it is something else."""
    if isinstance(node, StoredTensor | Tensor):
        return node
    if isinstance(node, Stub):
        return node if node.name in UNREADABLE else array_of(node)
    return None


def _is_integer(value: Value) -> bool:
    if isinstance(value, Tensor):
        return not (value.is_floating_point() or value.is_complex())
    if isinstance(value, StoredArray):
        return value.dtype[1] != "f"
    if isinstance(value, StoredTensor) and isinstance(value.storage, Storage):
        return value.storage.kind in _INTEGERS
    return False


def find_fits(
    expected: Mapping[str, Sequence[int]],
    leaves: Mapping[str, Leaf],
    *,
    optional: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> list[Fit]:
    """List the places where weights of a network may be, from the one with the most of them on.

    Names of the network are looked for at the end of paths, so what precedes them may be anything: keys of
    wrappers and prefixes of DistributedDataParallel, torch.compile, Lightning or averaged weights. Integers that the
    network lacks are left out: a network learns none, they are counters or indices.

    Args:
        expected: Name of a parameter or buffer of the network -> its shape.
        leaves: What the checkpoint holds.
        optional: Patterns of names that may be missing.
        ignored: Patterns of names that the checkpoint may have in addition.
    """
    counts: Counter[str] = Counter()
    for path in leaves:
        start = 0
        while True:
            if path[start:] in expected:
                counts[path[:start]] += 1
            start = path.find(".", start) + 1
            if not start:
                break
    fits = []
    for prefix, _ in counts.most_common(_MAX_FITS):
        found = {name: prefix + name for name in expected if prefix + name in leaves}
        wrong = [name for name in found if leaves[found[name]].shape != tuple(expected[name])]
        missing = [name for name in expected if name not in found and not _matches(name, (*optional, *_COUNTERS))]
        unknown = _unknown(prefix, found, leaves, ignored)
        fits.append(Fit(prefix, found, missing, wrong, unknown))
    return sorted(fits, key=lambda fit: len(fit.misshapen) - len(fit.names))


def _unknown(prefix: str, found: Mapping[str, str], leaves: Mapping[str, Leaf], ignored: Sequence[str]) -> list[str]:
    """List what lies beside the weights under the same prefix, in the same mappings, and is none of the network's."""
    paths = set(found.values())
    containers = {leaves[path].container for path in paths}
    has_arrays = any(isinstance(leaves[path].value, StoredArray) for path in paths)  # elsewhere they are statistics
    return [
        path[len(prefix) :]
        for path, leaf in leaves.items()
        if path.startswith(prefix) and path not in paths and leaf.container in containers
        if not leaf.is_integer and (has_arrays or not isinstance(leaf.value, StoredArray))
        if not _matches(path[len(prefix) :], (*ignored, *_COUNTERS))
    ]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
