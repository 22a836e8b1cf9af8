"""What the passes over N observations need of an array library: `Arrays`, implemented by NumPy and by torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# Similarities of neighbors that agree to this many digits are ties, so that rounding does not order them: products of
# unit rows in float64 are exact to about 1e-15.
SIMILAR_DECIMALS = 12


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows in K parts, one part after the other.

    Attributes:
        rows: (m,), positions of rows, native.
        bounds: (K + 1,), the rows of part k are rows[bounds[k]] to rows[bounds[k + 1]].
    """

    rows: Any
    bounds: IntArray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[Any]:
        return (self.rows[start:end] for start, end in pairwise(self.bounds))

    @property
    def sizes(self) -> IntArray:
        """(K,), number of rows of each part."""
        return np.diff(self.bounds)


class Arrays(Protocol):
    """Operations on native arrays: NumPy's, or tensors of one device. Floating-point numbers are float64.

    Arithmetic, comparison, slices and ``@`` are those of the arrays themselves. Only what is small crosses to the other
    side: ``of_host`` brings parameters in, ``to_host`` brings sums out.
    """

    @property
    def block_rows(self) -> int:
        """Rows of a block that fits the cache, or a device."""

    def of_host(self, values: npt.NDArray[Any]) -> Any:
        """Copy parameters of any dtype to where the observations are."""

    def to_host(self, values: Any) -> npt.NDArray[Any]:
        """Copy sums to NumPy."""

    def zeros(self, *shape: int) -> Any:
        """Make an array of zeros."""

    def coarse(self, values: Any) -> Any:
        """Copy in the precision of what only rules out: float32 where its products are no less precise, or float64."""

    def take(self, matrix: Any, rows: Any) -> Any:
        """Copy rows, in their own dtype; ``rows`` are native, or NumPy integers or a mask."""

    def float64(self, matrix: Any) -> Any:
        """Copy in float64; the caller may change the copy."""

    def blocks(self, matrix: Any, order: IntArray, n_rows: int) -> Iterator[Any]:
        """Iterate over the rows in this order, in blocks of float64 that the next one may overwrite."""

    def add_by_key(self, totals: Any, rows: Any, keys: IntArray) -> None:
        """Add every row (n, D), which may be sparse, to ``totals[key]``, in place; the keys (n,) ascend."""

    def subtract_by_key(self, rows: Any, origins: Any, keys: IntArray) -> None:
        """Subtract ``origins[key]`` from every row (n, D), in place; the keys (n,) ascend."""

    def products(self, rows: Any, out: Any = None) -> Any:
        """Return rows^T rows, of which only the upper triangle is right, in ``out`` (D, D) where that is given."""

    def add_products(self, total: Any, rows: Any) -> None:
        """Add rows^T rows to the upper triangle of ``total``, (D, D) and contiguous by rows, in place."""

    def symmetric(self, upper: Any) -> FloatArray:
        """Copy a matrix to NumPy, with its upper triangle on both sides."""

    def squared_lengths(self, rows: Any) -> Any:
        """Return the squared length (n,) of every row."""

    def exp(self, values: Any) -> Any:
        """Return e to these powers; may overwrite them."""

    def log(self, values: Any) -> Any:
        """Return natural logarithms, minus infinity for zero; may overwrite the values."""

    def argmax(self, rows: Any) -> Any:
        """Return the position (n,) of the largest value of each row, the first of equal ones."""

    def pick(self, rows: Any, columns: IntArray) -> Any:
        """Return one number (n,) of each row, in a column of its own."""

    def rows_by_part(self, part_of_row: Any, n_parts: int) -> Parts:
        """Divide rows by their part, (n,) in 0 .. n_parts, in their order; those in n_parts belong to none."""

    def sums_by_part(self, z: Any, parts: Parts) -> Any:
        """Sum the rows z (n, d) of every part, (K, d)."""

    def whitened_squares(self, z: Any, parts: Parts, origins: Any, triangles: Any) -> Any:
        """Compute |(z - origin) triangle|^2 for the rows z (n, d) of every part, (m,), in the order of ``parts.rows``.

        Args:
            z: (n, d).
            parts: K parts with m rows in all.
            origins: (K, d).
            triangles: (K, d, d), upper triangular.
        """

    def weighted_moments(self, z: Any, parts: Parts, weights: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Compute moments of the rows z (n, d) of every part, with weights (m,) in the order of ``parts.rows``.

        Returns:
            In NumPy: the sums of the weights (K,), the weighted means (K, d), and the weighted sums of the products of
            deviations from these (K, d, d); zeros for a part without weight.
        """

    def places(self, mask: Any) -> Any:
        """Return the places (m,) of what is true in a flattened mask, ascending."""

    def argsort(self, values: Any) -> Any:
        """Return the order (n,) in which values ascend, stable."""

    def probabilities(self, places: Any, odds: Any, shape: tuple[int, int]) -> Any:
        """Turn the log odds (m,) of some cells into rows of probabilities (n, K), zero elsewhere; sparse in NumPy.

        The places of the cells in the flattened table ascend, and every row has one. May overwrite the odds.
        """

    def write_pair_products(self, channels: Any, out: Any) -> None:
        """Write the products of every two channels (d, n), i <= j in the order of ``np.triu_indices``, into ``out``."""

    def contiguous(self, matrix: Any) -> Any:
        """Return the matrix with its rows contiguous."""

    def joined(self, parts: Sequence[Any]) -> Any:
        """Join arrays along their first axis."""

    def max(self, rows: Any) -> Any:
        """Return the largest value (n,) of each row."""

    def count(self, cells: Any, n_cells: int) -> IntArray:
        """Count how often each of 0 .. n_cells - 1 occurs, into NumPy."""

    def first_unusable(self, matrix: Any, limit: float) -> tuple[int, int] | None:
        """Return row and column of the first number that is not finite and below the limit; None without one."""

    def constant_columns(self, matrix: Any) -> IntArray:
        """Return the columns that hold the same value in every row, by exact equality, into NumPy."""

    def nearest(self, rows: Any, images: IntArray, k: int) -> IntArray:
        """Return, for every row, the k rows of other images whose products with it are the largest, (N, k), into NumPy.

        Of products that agree to `SIMILAR_DECIMALS` digits, the first row is nearer. Where other images hold fewer than
        k rows, -1 follows them.

        Args:
            rows: (N, D), each of length 1 or 0.
            images: (N,), the image of each row.
            k: 1 .. N.
        """
