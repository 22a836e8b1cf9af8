"""Nearest neighbors in NumPy: products in float32 rule out most rows, and products in float64 order those in doubt."""

from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays.base import SIMILAR_DECIMALS, FloatArray, IntArray

Float32Array = npt.NDArray[np.float32]
# 512 x 512 products are 1 MB in float32, which stay in the cache.
TILE_ROWS = 512
# 256 x 10,000 similarities are 10 MB in float32.
BLOCK_ROWS = 256
# Two of k neighbors in a tile rarely share one of so many parts.
PARTS_PER_NEIGHBOR = 2
# Tile by tile, 4 to 6 candidates per neighbor come together; rows with many equals have thousands.
MOST_PER_NEIGHBOR = 16
# A query with more candidates than this share of all rows shares one matrix product with others of its kind.
LARGE_SHARE = 0.05
# 128 rows of 720 channels are 0.7 MB, which stay in the cache.
PAIRS = 128


def nearest(rows: FloatArray, images: IntArray, k: int) -> IntArray:
    """Return the k nearest rows of other images, (N, k), as `Arrays.nearest` does."""
    n, screen, found = len(rows), _Screen.of(rows), np.full((len(rows), k), -1)
    kept = screen.pairs(images, k)
    for start in range(0, n, BLOCK_ROWS):
        queries = np.arange(start, min(start + BLOCK_ROWS, n))
        if kept is None:
            own, others, approximate = screen.pairs_of(slice(start, queries[-1] + 1), images, k)
        else:
            part = slice(*np.searchsorted(kept[0], [start * n, (queries[-1] + 1) * n]))
            (own, others), approximate = np.divmod(kept[0][part] - start * n, n), kept[1][part]
        order = _order(rows, queries, own, others, approximate, screen.margins[queries])
        rank = np.arange(len(own)) - np.searchsorted(own, own)
        is_near = rank < k
        found[queries[own[is_near]], rank[is_near]] = others[order[is_near]]
    return found


def _order(
    rows: FloatArray, queries: IntArray, own: IntArray, others: IntArray, approximate: Float32Array, margins: FloatArray
) -> IntArray:
    """Order candidates by query, the most similar first; exact products are taken only where approximate ones are near.

    Both ``own`` and the ``others`` of each query ascend, so that of equally similar rows the first stays first.
    """
    order = np.lexsort((-approximate, own))
    falls = -np.diff(approximate[order].astype(np.float64))
    is_apart = (np.diff(own) > 0) | (falls > margins[own[1:]])
    cluster = np.empty_like(order)
    cluster[order] = np.cumsum(np.concatenate([[0], is_apart]))
    doubtful = np.bincount(cluster)[cluster] > 1
    exact = np.zeros(len(own))
    exact[doubtful] = np.round(_similarities(rows, queries, own[doubtful], others[doubtful]), SIMILAR_DECIMALS)
    return np.lexsort((-exact, cluster))


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
        deviations: (N, D), d_j.
        offsets: (N,), center d_j.
        margins: (N,), a row whose approximate similarity is below the k-th largest by more than this is no neighbor.
    """

    deviations: Float32Array
    offsets: Float32Array
    margins: FloatArray

    @classmethod
    def of(cls, rows: FloatArray) -> "_Screen":
        center, (n, width) = rows.mean(axis=0), rows.shape
        deviations, lengths, offsets = np.empty((n, width), np.float32), np.empty(n), np.empty(n)
        for start in range(0, n, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            exact = rows[block] - center
            lengths[block], offsets[block] = np.linalg.norm(exact, axis=1), exact @ center
            deviations[block] = exact
        # A sum of n products of numbers rounded to a unit u is wrong by at most about (n + 2) u times the sum of their
        # magnitudes, in whatever order it is taken; by Cauchy-Schwarz, that sum is at most the following one.
        magnitudes = lengths * lengths.max() + np.abs(offsets).max()
        error = 1.1 * (width + 3) * 2.0**-24 * magnitudes
        # In float64, and when rounded to SIMILAR_DECIMALS digits, similarities differ from exact ones by at most this.
        rounding = 0.5 * 10.0**-SIMILAR_DECIMALS + width * 2.0**-51
        return cls(deviations, offsets.astype(np.float32), 2 * (error + rounding))

    def pairs(self, images: IntArray, k: int) -> tuple[IntArray, Float32Array] | None:
        """Return the places of all candidates in (N, N), ascending, and their similarities; None where too many.

        The product of two tiles serves the rows of both. A row's k-th largest similarity to the tiles so far is a bound
        that only rises: what is below it is no candidate.
        """
        n, found, count = len(images), [], 0
        largest = np.full((n, k), -np.inf, np.float32)
        for one, other in combinations_with_replacement(_tiles(n), 2):
            products = self._products(one, other, images)
            sides = [(one, other, products + self.offsets[other])]
            if one != other:
                sides.append((other, one, (products + self.offsets[one, None]).T))
            for own, others, similarities in sides:
                largest[own] = _largest(similarities, k, largest[own])
                rows, columns = _where(similarities >= self._limits(own, largest[own])[:, None])
                found.append(((own.start + rows) * n + others.start + columns, similarities[rows, columns]))
                count += len(rows)
            if count > MOST_PER_NEIGHBOR * k * n:
                return None
        places, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = np.flatnonzero(values >= self._limits(slice(0, n), largest)[places // n])
        kept = kept[np.argsort(places[kept])]
        return places[kept], values[kept]

    def pairs_of(self, queries: slice, images: IntArray, k: int) -> tuple[IntArray, IntArray, Float32Array]:
        """Return the candidates of some rows, ascending: positions among these and among all (m,), and similarities."""
        everything = slice(0, len(images))
        similarities = self._products(queries, everything, images) + self.offsets
        own, others = _where(similarities >= self._limits(queries, _largest(similarities, k))[:, None])
        return own, others, similarities[own, others]

    def _products(self, first: slice, second: slice, images: IntArray) -> Float32Array:
        products: Float32Array = self.deviations[first] @ self.deviations[second].T
        np.copyto(products, -np.inf, where=images[first, None] == images[second])
        return products

    def _limits(self, rows: slice, largest: Float32Array) -> Float32Array:
        """Return the least similarity (q,) of a candidate, given k numbers that as many candidates reach."""
        lowest = largest.min(axis=1).astype(np.float64) - self.margins[rows]
        limits = np.nextafter(lowest.astype(np.float32), np.float32(-np.inf))
        # Fewer than k rows of other images: all of them are candidates, and none of the same image.
        least: Float32Array = np.maximum(limits, np.finfo(np.float32).min)
        return least


def _tiles(n: int) -> list[slice]:
    return [slice(start, min(start + TILE_ROWS, n)) for start in range(0, n, TILE_ROWS)]


def _largest(values: Float32Array, k: int, known: Float32Array | None = None) -> Float32Array:
    """Return k numbers of each row (q, N) of which as many are reached, and that are rarely far from the k largest.

    They are the k largest of the maxima of disjoint parts of the row, and of those known before.
    """
    n_parts = PARTS_PER_NEIGHBOR * k
    if (length := values.shape[1] // n_parts) > 1:
        values = reduce(np.maximum, (values[:, i * n_parts : (i + 1) * n_parts] for i in range(length)))
    values = np.concatenate(
        [np.full((len(values), k), -np.inf, np.float32) if known is None else known, values], axis=1
    )
    last = values.shape[1] - k
    return np.partition(values, last, axis=1)[:, last:]


def _where(mask: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Return the rows and columns of what is true, in the order of memory."""
    order: Literal["C", "F"] = "C" if mask.flags.c_contiguous else "F"
    rows, columns = np.unravel_index(np.flatnonzero(mask.ravel(order=order)), mask.shape, order=order)
    return rows, columns
