"""Nearest neighbors in NumPy: products in float32 rule out most rows, and products in float64 order the others."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays.base import SIMILAR_DECIMALS, FloatArray, IntArray

# 256 x 10,000 similarities are 10 MB in float32.
BLOCK_ROWS = 256
# Two of k neighbors rarely share one of so many parts.
PARTS_PER_NEIGHBOR = 16
# A query with more candidates than this share of all rows shares one matrix product with others of its kind.
LARGE_SHARE = 0.05
# 128 rows of 720 channels are 0.7 MB, which stay in the cache.
PAIRS = 128


def nearest(rows: FloatArray, images: IntArray, k: int) -> IntArray:
    """Return the k nearest rows of other images, (N, k), as `Arrays.nearest` does."""
    screen, found = _Screen.of(rows), np.full((len(rows), k), -1)
    for start in range(0, len(rows), BLOCK_ROWS):
        queries = np.arange(start, min(start + BLOCK_ROWS, len(rows)))
        candidates = screen.candidates(queries, images, k)
        own, others = np.divmod(np.flatnonzero(candidates), len(rows))
        similarities = np.round(_similarities(rows, queries, own, others), SIMILAR_DECIMALS)
        order = np.lexsort((-similarities, own))
        rank = np.arange(len(own)) - np.searchsorted(own, own)
        kept = rank < k
        found[queries[own[kept]], rank[kept]] = others[order[kept]]
    return found


def _similarities(rows: FloatArray, queries: IntArray, own: IntArray, others: IntArray) -> FloatArray:
    """Compute the products of queries[own] with others, (m,), where ``own`` ascends."""
    is_large = np.bincount(own, minlength=len(queries)) > LARGE_SHARE * len(rows)
    products, of_large = np.empty(len(own)), is_large[own]
    if is_large.any():
        positions = np.cumsum(is_large) - 1
        whole = rows[queries[is_large]] @ rows.T
        products[of_large] = whole[positions[own[of_large]], others[of_large]]
    few = np.flatnonzero(~of_large)
    for start in range(0, len(few), PAIRS):
        pairs = few[start : start + PAIRS]
        products[pairs] = np.einsum("ij,ij->i", rows[others[pairs]], rows[queries[own[pairs]]])
    return products


@dataclass(frozen=True, eq=False)
class _Screen:
    """Finds all rows that may be among the k nearest, by products in float32 that cost half as much as in float64.

    With x = center + d, the similarities x_i x_j of a query i are d_i d_j + center d_j plus a number that is the same
    for every j. Of these smaller numbers, float32 rounds off less: rows that all have nearly the same direction would
    otherwise all be candidates.

    Attributes:
        columns: (N, D + 1), d_j and center d_j.
        margins: (N,), a row whose approximate similarity is below the k-th largest by more than this is no neighbor.
    """

    columns: npt.NDArray[np.float32]
    margins: FloatArray

    @classmethod
    def of(cls, rows: FloatArray) -> "_Screen":
        center, (n, width) = rows.mean(axis=0), rows.shape
        columns, lengths, offsets = np.empty((n, width + 1), np.float32), np.empty(n), np.empty(n)
        for start in range(0, n, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            deviations = rows[block] - center
            lengths[block], offsets[block] = np.linalg.norm(deviations, axis=1), deviations @ center
            columns[block, :-1], columns[block, -1] = deviations, offsets[block]
        # A sum of n products of numbers rounded to a unit u is wrong by at most about (n + 2) u times the sum of their
        # magnitudes, in whatever order it is taken; by Cauchy-Schwarz, that sum is at most the following one.
        magnitudes = lengths * lengths.max() + np.abs(offsets).max()
        error = 1.1 * (width + 3) * 2.0**-24 * magnitudes
        # In float64, and when rounded to SIMILAR_DECIMALS digits, similarities differ from exact ones by at most this.
        rounding = 0.5 * 10.0**-SIMILAR_DECIMALS + width * 2.0**-51
        return cls(columns, 2 * (error + rounding))

    def candidates(self, queries: IntArray, images: IntArray, k: int) -> npt.NDArray[np.bool_]:
        """Return, for every query (q,), whether each row (N,) is in another image and may be among the k nearest."""
        left = self.columns[queries]
        left[:, -1] = 1.0
        similarities = left @ self.columns.T
        np.copyto(similarities, -np.inf, where=images[queries, None] == images)
        lowest = _bound_of_kth_largest(similarities, k) - self.margins[queries]
        lowest = np.nextafter(lowest.astype(np.float32), np.float32(-np.inf))
        # Fewer than k rows of other images: all of them are candidates, and none of the same image.
        possible: npt.NDArray[np.bool_] = similarities >= np.maximum(lowest, np.finfo(np.float32).min)[:, None]
        return possible


def _bound_of_kth_largest(values: npt.NDArray[np.float32], k: int) -> FloatArray:
    """Return numbers (q,) that are at most the k-th largest of each row (N,), and rarely below one of the next few.

    They are the k-th largest of the maxima of disjoint parts of the row: so many numbers are at least as large.
    """
    n_parts = PARTS_PER_NEIGHBOR * k
    if (length := values.shape[1] // n_parts) > 1:
        values = values[:, : n_parts * length].reshape(len(values), length, n_parts).max(axis=1)
    last = values.shape[1] - k
    bounds: FloatArray = np.partition(values, last, axis=1)[:, last].astype(np.float64)
    return bounds
