"""The features along their principal directions, which GBC and N-LEEP share."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.linalg

from seg_transfer.arrays import arrays_of
from seg_transfer.metrics._base import Statistics, features_of
from seg_transfer.metrics._memo import remembered
from seg_transfer.observations import FloatArray, IntArray, Moments
from seg_transfer.observations.passes import Blocks, keyed_blocks, projected_blocks

# 260,000 observations in 64 directions. What needs more is projected by each metric, and not kept.
KEPT_BYTES = 128 << 20


@dataclass(frozen=True, eq=False)
class Principal:
    """Features along the principal directions of their sample.

    Attributes:
        features: (N, D).
        mean: (D,).
        variances: (d,), along the directions, descending.
        directions: (D, d), orthonormal.
    """

    features: Any
    mean: FloatArray
    variances: FloatArray
    directions: FloatArray

    def blocks(self, keys: IntArray, n_rows: int = 0) -> Blocks:
        """Iterate over all observations along the directions, (n, d), as `keyed_blocks` does."""
        if self._kept is None:
            return projected_blocks(self.features, keys, self.mean, self.directions, n_rows)
        return keyed_blocks(self._kept, keys, n_rows)

    def rows(self, positions: IntArray) -> Any:
        """Return some observations along the directions, (n, d)."""
        arrays = arrays_of(self.features)
        if self._kept is None:
            return self._along(arrays.take(self.features, positions))
        return arrays.take(self._kept, positions)

    @cached_property
    def _kept(self) -> Any:
        fits = 8 * len(self.features) * len(self.variances) <= KEPT_BYTES
        return self._along(self.features) if fits else None

    def _along(self, features: Any) -> Any:
        rows, start = arrays_of(features).zeros(len(features), len(self.variances)), 0
        in_order = np.zeros(len(features), np.int64)
        for block, _ in projected_blocks(features, in_order, self.mean, self.directions):
            rows[start : start + len(block)] = block
            start += len(block)
        return rows


def principal(statistics: Statistics, n_directions: int | None) -> Principal:
    """Return the features along min(n_directions, D, N - 1) directions, or, with None, along the channels."""
    return remembered(statistics, ("principal", n_directions), partial(_principal, statistics, n_directions))


def _principal(statistics: Statistics, n_directions: int | None) -> Principal:
    total = statistics.total
    return Principal(features_of(statistics), total.mean, *_directions(total, n_directions))


def _directions(total: Moments, n_directions: int | None) -> tuple[FloatArray, FloatArray]:
    width = len(total.mean)
    if n_directions is None:
        return np.diag(total.covariance), np.eye(width)
    first = max(width - min(n_directions, total.n - 1), 0)
    variances, vectors = scipy.linalg.eigh(total.covariance, subset_by_index=[first, width - 1])
    return variances[::-1], np.ascontiguousarray(vectors[:, ::-1])
