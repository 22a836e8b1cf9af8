"""Arrays in NumPy and BLAS."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk, dtrmm
from scipy.sparse import csr_array, issparse

from seg_transfer.arrays.base import FloatArray, IntArray, Parts
from seg_transfer.arrays.neighbors import nearest

# 1024 rows of 720 channels are 6 MB: larger blocks leave the cache, smaller ones slow down the matrix products.
BLOCK_ROWS = 1024
# e^-37 changes no digit of a sum of probabilities.
LEAST_ODDS = -37.0


class HostArrays:
    """NumPy's implementation of `Arrays`; blocks fit into the processor's cache."""

    @property
    def block_rows(self) -> int:
        return BLOCK_ROWS

    def of_host(self, values: npt.NDArray[Any]) -> Any:
        return values

    def to_host(self, values: Any) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = values
        return array

    def zeros(self, *shape: int) -> Any:
        return np.zeros(shape)

    def coarse(self, values: Any) -> Any:
        return values.astype(np.float32)

    def take(self, matrix: Any, rows: Any) -> Any:
        return matrix[rows] if rows.dtype == np.bool_ else matrix.take(rows, axis=0)

    def float64(self, matrix: Any) -> Any:
        return matrix.astype(np.float64)

    def blocks(self, matrix: Any, order: IntArray, n_rows: int) -> Iterator[Any]:
        size = min(n_rows, len(order))
        block, values = np.empty((size, matrix.shape[1]), matrix.dtype), np.empty((size, matrix.shape[1]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            np.take(matrix, chosen, axis=0, out=block[: len(chosen)], mode="clip")
            np.copyto(values[: len(chosen)], block[: len(chosen)], casting="same_kind")
            yield values[: len(chosen)]

    def add_by_key(self, totals: Any, rows: Any, keys: IntArray) -> None:
        if issparse(rows):
            _add_sparse(totals[keys[0] : keys[-1] + 1], rows, keys - keys[0])
            return
        for key, start, end in segments(keys):
            totals[key] += rows[start:end].sum(axis=0)

    def subtract_by_key(self, rows: Any, origins: Any, keys: IntArray) -> None:
        for key, start, end in segments(keys):
            rows[start:end] -= origins[key]

    def products(self, rows: Any, out: Any = None) -> Any:
        # The lower triangle in Fortran's order is the upper one in C's.
        return dsyrk(1.0, rows.T, c=None if out is None else out.T, lower=True, overwrite_c=True).T

    def add_products(self, total: Any, rows: Any) -> None:
        dsyrk(1.0, rows.T, beta=1.0, c=total.T, lower=True, overwrite_c=True)

    def symmetric(self, upper: Any) -> FloatArray:
        for row in range(len(upper) - 1):
            upper[row + 1 :, row] = upper[row, row + 1 :]
        full: FloatArray = upper
        return full

    def squared_lengths(self, rows: Any) -> Any:
        return np.einsum("ij,ij->i", rows, rows)

    def exp(self, values: Any) -> Any:
        return np.exp(values, out=values)

    def log(self, values: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(values, out=values)

    def argmax(self, rows: Any) -> Any:
        return rows.argmax(axis=1)

    def pick(self, rows: Any, columns: IntArray) -> Any:
        return rows[np.arange(len(columns)), columns]

    def rows_by_part(self, part_of_row: Any, n_parts: int) -> Parts:
        # NumPy sorts by counting where numbers have 16 bits.
        keys = part_of_row.astype(np.uint16) if n_parts < 1 << 16 else part_of_row
        order = np.argsort(keys, kind="stable")
        bounds = np.searchsorted(part_of_row[order], np.arange(n_parts + 1))
        return Parts(order[: bounds[-1]], bounds)

    def sums_by_part(self, z: Any, parts: Parts) -> Any:
        return np.stack([z.take(rows, axis=0).sum(axis=0) for rows in parts])

    def whitened_squares(self, z: Any, parts: Parts, origins: Any, triangles: Any) -> Any:
        squares = np.empty(parts.bounds[-1])
        for k, (own, start) in enumerate(zip(parts, parts.bounds, strict=False)):
            if len(own):
                rows = z.take(own, axis=0)
                rows -= origins[k]
                # The transpose is in Fortran's order. Half of the products would be with zeros, which dtrmm skips.
                products = dtrmm(1.0, triangles[k], rows.T, trans_a=1, overwrite_b=1)
                squares[start : start + len(own)] = np.einsum("ij,ij->j", products, products)
        return squares

    def weighted_moments(self, z: Any, parts: Parts, weights: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
        n_parts, width = len(parts), z.shape[1]
        totals, means, products = np.zeros(n_parts), np.zeros((n_parts, width)), np.zeros((n_parts, width, width))
        for k, (own, start) in enumerate(zip(parts, parts.bounds, strict=False)):
            given = weights[start : start + len(own)]
            matters = given > 0
            if matters.any():
                rows, given = z.take(own[matters], axis=0), given[matters]
                totals[k] = given.sum()
                means[k] = given @ rows / totals[k]
                rows -= means[k]
                rows *= np.sqrt(given)[:, None]
                products[k] = self.symmetric(self.products(rows))
        return totals, means, products

    def places(self, mask: Any) -> Any:
        return np.flatnonzero(mask)

    def argsort(self, values: Any) -> Any:
        return np.argsort(values, kind="stable")

    def probabilities(self, places: Any, odds: Any, shape: tuple[int, int]) -> Any:
        first_places = np.arange(shape[0] + 1) * shape[1]
        starts = np.searchsorted(places, first_places)
        odds -= np.maximum.reduceat(odds, starts[:-1]).repeat(np.diff(starts))
        matters = odds > LEAST_ODDS
        places, odds = places[matters], np.exp(odds[matters])
        starts = np.searchsorted(places, first_places)
        sizes = np.diff(starts)
        odds /= np.add.reduceat(odds, starts[:-1]).repeat(sizes)
        columns = places - first_places[:-1].repeat(sizes)
        return csr_array((odds, columns.astype(np.int32), starts.astype(np.int32)), shape=shape)

    def write_pair_products(self, channels: Any, out: Any) -> None:
        end = 0
        for channel in range(len(channels)):
            start, end = end, end + len(channels) - channel
            np.multiply(channels[channel:], channels[channel], out=out[start:end])

    def contiguous(self, matrix: Any) -> Any:
        return np.ascontiguousarray(matrix)

    def joined(self, parts: Sequence[Any]) -> Any:
        return np.concatenate(parts)

    def max(self, rows: Any) -> Any:
        return rows.max(axis=1)

    def count(self, cells: Any, n_cells: int) -> IntArray:
        return np.bincount(cells, minlength=n_cells)

    def first_unusable(self, matrix: Any, limit: float) -> tuple[int, int] | None:
        for start in range(0, len(matrix), BLOCK_ROWS):
            block = matrix[start : start + BLOCK_ROWS]
            if not _all_usable(block, limit):
                row, column = np.argwhere(~(np.abs(block.astype(np.float64)) < limit))[0]
                return start + int(row), int(column)
        return None

    def constant_columns(self, matrix: Any) -> IntArray:
        constant = np.arange(matrix.shape[1])
        for start in range(0, len(matrix), BLOCK_ROWS):
            # Few columns, usually none, are left after the first block.
            if not len(constant):
                break
            block = matrix[start : start + BLOCK_ROWS, constant]
            constant = constant[(block == matrix[0, constant]).all(axis=0)]
        return constant

    def nearest(self, rows: Any, images: IntArray, k: int) -> IntArray:
        return nearest(rows, images, k)


def segments(keys: IntArray) -> Iterator[tuple[int, int, int]]:
    """Yield every key of ascending keys with the bounds of its rows."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    for start, end in itertools.pairwise([*starts, len(keys)]):
        yield int(keys[start]), int(start), int(end)


def _add_sparse(totals: Any, rows: Any, keys: IntArray) -> None:
    width = rows.shape[1]
    cells = keys.repeat(np.diff(rows.indptr)) * width + rows.indices
    totals += np.bincount(cells, weights=rows.data, minlength=totals.size).reshape(totals.shape)


def _all_usable(block: npt.NDArray[Any], limit: float) -> bool:
    if block.dtype.itemsize <= 4:
        return bool(np.isfinite(block).all())
    return bool(block.min() > -limit and block.max() < limit)


HOST = HostArrays()
