"""Arrays of NumPy in pickles, read as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seg_transfer.models.weights.stored import Stub, bytes_of

_RECONSTRUCTED = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_FROM_BUFFER = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
_FROM_DEVICE = "torch._utils._rebuild_device_tensor_from_numpy"
_MAX_DIMENSIONS = 32
_NUMERIC = re.compile(r"[fiu][1248]|b1")


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a pickle: its shape, the code of its dtype such as "<f4", "C" or "F", and its bytes."""

    shape: tuple[int, ...]
    dtype: str
    order: str
    values: object


def array_of(stub: Stub) -> StoredArray | None:
    """Return the array of numbers that a stub stands for; None if it stands for anything else."""
    if stub.name in _RECONSTRUCTED and isinstance(stub.state, tuple) and len(stub.state) == 5:
        _, shape, dtype, is_fortran, values = stub.state
        return _array(shape, dtype, "F" if is_fortran is True else "C", values)
    if stub.name in _FROM_BUFFER and len(stub.args) == 4:
        values, dtype, shape, order = stub.args
        return _array(shape, dtype, "F" if order == "F" else "C", values)
    if stub.name == _FROM_DEVICE and stub.args and isinstance(stub.args[0], Stub) and stub.args[0].name != _FROM_DEVICE:
        return array_of(stub.args[0])
    return None


def read_arrays(stored: Mapping[str, StoredArray]) -> dict[str, Tensor]:
    """Convert arrays to tensors.

    Raises:
        ValueError: An array has another number of values than its shape says; the message names it.
    """
    found = {}
    for name, array in stored.items():
        values, dtype = bytes_of(array.values), np.dtype(array.dtype)
        if values is None or len(values) != math.prod(array.shape) * dtype.itemsize:
            raise ValueError(f"array {name} is damaged: its values do not fill its shape")
        shaped = np.frombuffer(values, dtype).reshape(array.shape, order="F" if array.order == "F" else "C")
        found[name] = torch.from_numpy(shaped.astype(dtype.newbyteorder("="), order="C"))
    return found


def _array(shape: Any, dtype: Any, order: str, values: object) -> StoredArray | None:
    is_shape = isinstance(shape, tuple) and len(shape) <= _MAX_DIMENSIONS
    if not is_shape or not all(isinstance(size, int) and size >= 0 for size in shape):
        return None
    code = dtype.args[0] if isinstance(dtype, Stub) and dtype.name == "numpy.dtype" and dtype.args else None
    if not isinstance(code, str) or not _NUMERIC.fullmatch(code):
        return None
    order_of_bytes = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
    return StoredArray(shape, (">" if order_of_bytes == ">" else "<") + code, order, values)
