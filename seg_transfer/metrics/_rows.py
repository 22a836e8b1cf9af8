"""Observations sorted by groups of images, in float32 and common units, and a linear classifier of them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk

from seg_transfer.arrays import HOST, FloatArray, IntArray
from seg_transfer.arrays.host import BLOCK_ROWS

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rows:
    """Observations in float32, sorted by group, with every channel in the common units of all of them.

    Attributes:
        values: (n, D), features minus their mean, divided by their standard deviation; 0 where a channel is constant.
        codes: (n,), class numbers.
        bounds: (m + 1,), the rows of group g are bounds[g] to bounds[g + 1].
        n_classes: C.
    """

    values: Float32Array
    codes: IntArray
    bounds: IntArray
    n_classes: int

    @classmethod
    def of(cls, features: npt.NDArray[Any], codes: IntArray, groups: IntArray, n_groups: int) -> "Rows":
        """Sort and standardize; the mean and the deviation are exact, and only their result is rounded."""
        order = np.lexsort((codes, groups))
        x = features[order].astype(np.float64)
        center = x.mean(axis=0)
        x -= center
        deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
        x *= np.divide(1, deviation, out=np.zeros_like(center), where=deviation > 1e-12 * np.abs(center))
        bounds = np.searchsorted(groups[order], np.arange(n_groups + 1))
        return cls(x.astype(np.float32), codes[order], bounds, int(codes.max()) + 1)

    @cached_property
    def group_sums(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Counts (m, C), sums (m, C, D) and second moments (m, D, D) of every group."""
        n_groups, n_classes, width = len(self.bounds) - 1, self.n_classes, self.values.shape[1]
        counts, sums = np.zeros((n_groups, n_classes), np.int64), np.zeros((n_groups, n_classes, width))
        seconds = np.zeros((n_groups, width, width))
        for group in range(n_groups):
            for block in self._blocks(self.bounds[group], self.bounds[group + 1]):
                x, codes = self.values[block].astype(np.float64), self.codes[block]
                counts[group] += np.bincount(codes, minlength=n_classes)
                HOST.add_by_key(sums[group], x, codes)
                # The lower triangle, which alone is read: SciPy's Cholesky takes it from there.
                seconds[group] = dsyrk(1.0, x.T, beta=1.0, c=seconds[group].T, overwrite_c=True).T
        return counts, sums, seconds

    def without(self, left_out: Collection[int]) -> Iterator[slice]:
        """Yield the rows of all other groups, in blocks."""
        for group in range(len(self.bounds) - 1):
            if group not in left_out:
                yield from self._blocks(self.bounds[group], self.bounds[group + 1])

    def predictions(self, group: int, fit: "Fit") -> IntArray:
        """Return the classes (n_g,) that a fit predicts for the rows of a group."""
        rows = self.values[self.bounds[group] : self.bounds[group + 1]]
        predicted: IntArray = (rows @ fit.weights.astype(np.float32) + fit.intercepts.astype(np.float32)).argmax(axis=1)
        return predicted

    def codes_of(self, group: int) -> IntArray:
        """Return the classes (n_g,) of the rows of a group."""
        return self.codes[self.bounds[group] : self.bounds[group + 1]]

    @staticmethod
    def _blocks(start: int, end: int) -> Iterator[slice]:
        return (slice(first, min(first + BLOCK_ROWS, end)) for first in range(start, end, BLOCK_ROWS))


@dataclass(frozen=True, eq=False)
class Fit:
    """A linear classifier in the common units of `Rows`.

    Attributes:
        weights: (D, C).
        intercepts: (C,), -inf for a class that was not fitted.
    """

    weights: FloatArray
    intercepts: FloatArray
