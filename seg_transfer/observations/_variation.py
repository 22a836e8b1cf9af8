"""Which columns of a matrix never vary, by exact equality: a column that only holds rounding noise varies."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.observations._blocks import BLOCK_ROWS, IntArray


def constant_columns(matrix: npt.NDArray[Any]) -> IntArray:
    """Return the indices of the columns that hold the same value in every row.

    Args:
        matrix: (N, D) numbers, N > 0.

    Returns:
        (n,) ascending indices.

    Example:
        >>> constant_columns(np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 2.0]]))
        array([0, 2])
    """
    constant = np.arange(matrix.shape[1])
    for start in range(0, len(matrix), BLOCK_ROWS):
        # Few columns, usually none, are left after the first block.
        if not len(constant):
            break
        block = matrix[start : start + BLOCK_ROWS, constant]
        constant = constant[(block == matrix[0, constant]).all(axis=0)]
    return constant
