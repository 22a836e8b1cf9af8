"""Passes over N rows in blocks that fit into the processor's cache."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# 1024 rows of 720 channels are 6 MB: larger blocks leave the cache, smaller ones slow down the matrix products.
BLOCK_ROWS = 1024


def keyed_blocks(matrix: npt.NDArray[Any], keys: IntArray, n_rows: int = 0) -> Iterator[tuple[FloatArray, IntArray]]:
    """Iterate over the rows of a matrix in blocks of float64, in the order of their keys.

    Args:
        matrix: (N, D) numbers of any dtype; it is not modified.
        keys: (N,) integers.

    Yields:
        Rows (n, D) and their keys (n,). The keys ascend over all blocks. The caller may change the rows in place; each
        block overwrites the previous one.

    Example:
        >>> for rows, keys in keyed_blocks(np.array([[1.0], [2.0], [3.0]]), np.array([5, 4, 5])):
        ...     print(rows.ravel(), keys)
        [2. 1. 3.] [4 5 5]
    """
    order = np.argsort(keys, kind="stable")
    size = min(n_rows or BLOCK_ROWS, len(keys))
    block, values = np.empty((size, matrix.shape[1]), matrix.dtype), np.empty((size, matrix.shape[1]))
    for start in range(0, len(keys), size):
        chosen = order[start : start + size]
        np.take(matrix, chosen, axis=0, out=block[: len(chosen)], mode="clip")
        np.copyto(values[: len(chosen)], block[: len(chosen)], casting="same_kind")
        yield values[: len(chosen)], keys[chosen]


def add_by_key(totals: FloatArray, rows: FloatArray, keys: IntArray) -> None:
    """Add every row to ``totals[key]``, in place.

    Args:
        totals: (K, D), changed in place.
        rows: (n, D).
        keys: (n,) integers 0 .. K - 1, ascending.

    Example:
        >>> totals = np.zeros((3, 1))
        >>> add_by_key(totals, np.array([[2.0], [1.0], [3.0]]), np.array([0, 2, 2]))
        >>> totals.ravel()
        array([2., 0., 4.])
    """
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    for start, end in itertools.pairwise([*starts, len(keys)]):
        totals[keys[start]] += rows[start:end].sum(axis=0)
