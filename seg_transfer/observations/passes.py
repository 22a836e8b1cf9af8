"""Passes over N rows, wherever they lie: small arrays go in, sums come out, both in NumPy."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays import FloatArray, IntArray, arrays_of
from seg_transfer.arrays.host import segments

# Native rows (n, D) in float64, and their keys (n,), which ascend over all blocks.
Blocks = Iterable[tuple[Any, IntArray]]


def keyed_blocks(matrix: Any, keys: IntArray, n_rows: int = 0) -> Iterator[tuple[Any, IntArray]]:
    """Iterate over the rows of a matrix in blocks of float64, in the order of their keys.

    Args:
        matrix: (N, D) numbers of any dtype, an array or a tensor; it is not modified.
        keys: (N,) integers.
        n_rows: Rows per block; 0 for as many as fit the cache, or a device.

    Yields:
        Rows (n, D), where the matrix lies, and their keys (n,). The keys ascend over all blocks. The caller may change
        the rows in place; each block overwrites the previous one.

    Example:
        >>> for rows, keys in keyed_blocks(np.array([[1.0], [2.0], [3.0]]), np.array([5, 4, 5])):
        ...     print(rows.ravel(), keys)
        [2. 1. 3.] [4 5 5]
    """
    arrays, order, start = arrays_of(matrix), np.argsort(keys, kind="stable"), 0
    for rows in arrays.blocks(matrix, order, n_rows or arrays.block_rows):
        yield rows, keys[order[start : start + len(rows)]]
        start += len(rows)


def sums_by_key(blocks: Blocks, n_keys: int) -> FloatArray:
    """Sum rows by their keys, (n_keys, D).

    Example:
        >>> rows, keys = np.array([[2.0], [1.0], [3.0]]), np.array([0, 2, 2])
        >>> sums_by_key(keyed_blocks(rows, keys), 3).ravel()
        array([2., 0., 4.])
    """
    totals: Any = None
    for rows, keys in blocks:
        arrays = arrays_of(rows)
        totals = arrays.zeros(n_keys, rows.shape[1]) if totals is None else totals
        arrays.add_by_key(totals, rows, keys)
    return arrays.to_host(totals)


def projected_blocks(matrix: Any, keys: IntArray, center: FloatArray, basis: FloatArray, n_rows: int = 0) -> Blocks:
    """Iterate over z = (x - center) basis, (n, d), as `keyed_blocks` does over the rows x (n, D) of a matrix.

    Example:
        >>> [(z, keys)] = projected_blocks(np.array([[3.0], [5.0]]), np.array([1, 0]), np.array([1.0]), np.eye(1))
        >>> z.ravel(), keys
        (array([4., 2.]), array([0, 1]))
    """
    arrays = arrays_of(matrix)
    native_center, native_basis = arrays.of_host(center), arrays.of_host(basis)
    for rows, sorted_keys in keyed_blocks(matrix, keys, n_rows):
        rows -= native_center
        yield rows @ native_basis, sorted_keys


def sums_about_origins(blocks: Blocks, origins: FloatArray, products: bool = False) -> tuple[FloatArray, FloatArray]:
    """Sum rows less the origin of their key, and their squares, by key.

    Args:
        blocks: Rows (n, d), which are changed in place, and their keys 0 .. K - 1.
        origins: (K, d).
        products: Whether to sum the products of every two channels, too.

    Returns:
        Sums of z (K, d), and of z^2 (K, d) or of z z^T (K, d, d).
    """
    (n_keys, width), sums = origins.shape, None
    for z, sorted_keys in blocks:
        arrays = arrays_of(z)
        if sums is None:
            native_origins, sums = arrays.of_host(origins), arrays.zeros(n_keys, width)
            squares = arrays.zeros(n_keys, *((width, width) if products else (width,)))
        arrays.subtract_by_key(z, native_origins, sorted_keys)
        arrays.add_by_key(sums, z, sorted_keys)
        if products:
            for key, start, end in segments(sorted_keys):
                squares[key] += z[start:end].T @ z[start:end]
        else:
            z *= z
            arrays.add_by_key(squares, z, sorted_keys)
    return arrays.to_host(sums), arrays.to_host(squares)


def log_product_sums(blocks: Blocks, factors: FloatArray, n_parts: int) -> FloatArray:
    """Sum log(p_i . f) over the rows p_i of each key, for R factors f that the key's label decides.

    Args:
        blocks: Rows (n, Z), native or sparse, and their keys, label n_parts + part.
        factors: (C, R, Z), for every label.
        n_parts: Number of keys of one label.

    Returns:
        (C n_parts, R); minus infinity where a product is zero.
    """
    n_labels, n_sets, _ = factors.shape
    totals: Any = None
    for rows, keys in blocks:
        arrays = arrays_of(rows)
        if totals is None:
            totals, native = arrays.zeros(n_labels * n_parts, n_sets), arrays.of_host(factors)
        products = arrays.zeros(len(keys), n_sets)
        for label, start, end in segments(keys // n_parts):
            products[start:end] = rows[start:end] @ native[label].T
        arrays.add_by_key(totals, arrays.log(products), keys)
    return arrays.to_host(totals)


def counts_of_largest(matrix: Any, keys: IntArray, n_keys: int) -> IntArray:
    """Count the rows of each key by the column of their largest value, the first of equal ones, (n_keys, Z)."""
    arrays, width = arrays_of(matrix), matrix.shape[1]
    counts = np.zeros(n_keys * width, np.int64)
    for rows, sorted_keys in keyed_blocks(matrix, keys):
        counts += arrays.count(arrays.of_host(sorted_keys) * width + arrays.argmax(rows), len(counts))
    return counts.reshape(n_keys, width)


def counts_of_predictions(
    matrix: Any,
    keys: IntArray,
    center: FloatArray,
    weights: Sequence[FloatArray],
    intercepts: Sequence[FloatArray],
) -> IntArray:
    """Count the rows of every part by their class and by the class that the part's linear classifier gives them.

    Args:
        matrix: (N, D).
        keys: (N,) integers, part C + class.
        center: (D,), subtracted from all rows.
        weights: (D, C) for each of m parts.
        intercepts: (C,) for each part; minus infinity for a class that is never predicted.

    Returns:
        (m, C, C).
    """
    arrays, n_parts, n_classes = arrays_of(matrix), len(weights), len(intercepts[0])
    native = [tuple(map(arrays.of_host, pair)) for pair in zip(weights, intercepts, strict=True)]
    native_center, counts = arrays.of_host(center), np.zeros(n_parts * n_classes**2, np.int64)
    for rows, sorted_keys in keyed_blocks(matrix, keys):
        rows -= native_center
        for part, start, end in segments(sorted_keys // n_classes):
            own_weights, own_intercepts = native[part]
            predicted = arrays.argmax(rows[start:end] @ own_weights + own_intercepts)
            cells = arrays.of_host(sorted_keys[start:end] * n_classes) + predicted
            counts += arrays.count(cells, len(counts))
    return counts.reshape(n_parts, n_classes, n_classes)


def second_moment(matrix: Any, rows: IntArray, center: FloatArray) -> FloatArray:
    """Compute the mean of (x - center)(x - center)^T over some rows, (D, D)."""
    arrays = arrays_of(matrix)
    native, total = arrays.of_host(center), arrays.zeros(len(center), len(center))
    for z in arrays.blocks(matrix, rows, arrays.block_rows):
        z -= native
        arrays.add_products(total, z)
    total /= len(rows)
    return arrays.symmetric(total)


def softmax(odds: Any) -> Any:
    """Turn log odds (n, C) into probabilities, in place."""
    arrays = arrays_of(odds)
    odds -= arrays.max(odds)[:, None]
    odds = arrays.exp(odds)
    odds /= odds.sum(axis=1)[:, None]
    return odds


def wrong_distribution(matrix: Any, tolerance: float) -> tuple[int, float, float] | None:
    """Return the first row that is negative somewhere or does not sum to 1, with its sum and least value."""
    arrays, start = arrays_of(matrix), 0
    for rows in arrays.blocks(matrix, np.arange(len(matrix)), arrays.block_rows):
        sums, least = rows.sum(axis=1), -arrays.max(-rows)
        is_wrong = (abs(sums - 1) > tolerance) | (least < 0)
        if bool(is_wrong.any()):
            row = int(np.argmax(arrays.to_host(is_wrong)))
            return start + row, float(sums[row]), float(least[row])
        start += len(rows)
    return None


def numpy_copy(matrix: Any, rows: npt.NDArray[Any]) -> FloatArray:
    """Copy some rows to NumPy, in float64."""
    arrays = arrays_of(matrix)
    return arrays.to_host(arrays.float64(arrays.take(matrix, rows)))
