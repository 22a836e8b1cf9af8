"""Arrays of observations where they lie: in NumPy, or in torch on a device.

Whatever visits all N observations goes through `Arrays`: blocks in float64, sums by key, products. Metrics see the
sums, which are NumPy arrays, and know of no device. torch is imported where a tensor comes in, never before.
"""

import sys
from typing import Any

from seg_transfer.arrays.base import Arrays, FloatArray, IntArray, Parts
from seg_transfer.arrays.host import HOST

__all__ = ["HOST", "Arrays", "FloatArray", "IntArray", "Parts", "arrays_of", "is_tensor"]


def is_tensor(matrix: Any) -> bool:
    """Whether this is a torch tensor; says so without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(matrix, torch.Tensor)


def arrays_of(matrix: Any) -> Arrays:
    """Return the implementation for a matrix: torch on its device for a tensor, NumPy for all else.

    Example:
        >>> arrays_of([[1.0, 2.0]]) is HOST
        True
    """
    if not is_tensor(matrix):
        return HOST
    from seg_transfer.arrays.device import DeviceArrays

    return DeviceArrays(matrix.device)
