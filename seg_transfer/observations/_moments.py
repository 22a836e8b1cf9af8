"""Counts, class sums and second moments of observations: one pass, additive over groups of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays import FloatArray, IntArray, arrays_of
from seg_transfer.arrays.host import segments
from seg_transfer.errors import ObservationsError
from seg_transfer.observations._observations import Observations
from seg_transfer.observations.passes import keyed_blocks


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, class sums and second moment of some observations, in float64, about the point ``shift``.

    Below, z = x - shift.

    Attributes:
        classes: (C,) labels.
        shift: (D,) the point that the moments are taken about.
        counts: (C,) observations of each class.
        sums: (C, D) the sum of z over each class.
        second: (D, D) the sum of z z^T over all classes.
        third: (D,) the sum of |z|^2 z. With ``fourth`` it says how far the products z z^T scatter about their mean.
        fourth: The sum of |z|^4.
    """

    classes: npt.NDArray[np.integer[Any]]
    shift: FloatArray
    counts: IntArray
    sums: FloatArray
    second: FloatArray
    third: FloatArray
    fourth: float

    def __add__(self, other: Moments) -> Moments:
        """Combine the moments of both, about the shift of the left operand."""
        return _combine([self, other], self.shift)

    @property
    def n(self) -> int:
        """Number of observations."""
        return int(self.counts.sum())

    @property
    def mean(self) -> FloatArray:
        """(D,) mean of all observations."""
        return self.shift + self._mean_from_shift

    @property
    def class_offsets(self) -> FloatArray:
        """(C, D) mean of each class minus the overall mean; every class must be present."""
        return self.sums / self.counts[:, None] - self._mean_from_shift

    @cached_property
    def covariance(self) -> FloatArray:
        """(D, D) covariance of all observations, divided by N."""
        mean = self._mean_from_shift
        return self.second / self.n - np.outer(mean, mean)

    def about(self, shift: FloatArray) -> Moments:
        """Return the moments of the same observations about another point."""
        return _combine([self], shift)

    def present(self) -> Moments:
        """Return the same moments without the classes that have no observation."""
        kept = self.counts > 0
        return replace(self, classes=self.classes[kept], counts=self.counts[kept], sums=self.sums[kept])

    @property
    def central_fourth(self) -> float:
        """The mean of |x - mean|^4."""
        return self._third_and_fourth(-self._mean_from_shift)[1] / self.n

    @property
    def _mean_from_shift(self) -> FloatArray:
        mean: FloatArray = self.sums.sum(axis=0) / self.n
        return mean

    def _third_and_fourth(self, step: FloatArray) -> tuple[FloatArray, float]:
        """The sums of |z + step|^2 (z + step) and of |z + step|^4."""
        sums, square, product = self.sums.sum(axis=0), step @ step, self.second @ step
        doubled = 2 * np.trace(self.second) + self.n * square
        third = (
            self.third + 2 * product + square * sums + (doubled / 2 + 2 * (sums @ step) + self.n * square / 2) * step
        )
        fourth = self.fourth + 4 * (self.third + product + square * sums) @ step + doubled * square
        return third, float(fourth)


@dataclass(frozen=True, eq=False)
class MomentStatistics:
    """The moments of every group of images: all that LogME, the H-score and the PCA of GBC need from N x D features.

    Attributes:
        groups: One `Moments` per group, with the same classes; a class may be absent from a group.
        class_seconds: The sum of z z^T over each class of all groups, (C, D, D), native, of which only the upper
            triangles are right; None unless requested.
    """

    groups: tuple[Moments, ...]
    class_seconds: Any = None

    @classmethod
    def of(
        cls, observations: Observations, groups: IntArray | None = None, class_seconds: bool = False
    ) -> MomentStatistics:
        """Compute the moments of every group in one pass over the features, in blocks.

        Args:
            observations: N observations with features.
            groups: (N,) integers 0 .. n_groups - 1; None puts all observations into one group.
            class_seconds: Whether to sum the products of every class, too. They take 8 C D^2 bytes.

        Raises:
            ObservationsError: The observations have no features.

        Example:
            >>> observations = Observations(np.array([[0.0], [2.0], [7.0]]), np.array([3, 8, 8]))
            >>> total = MomentStatistics.of(observations).total()
            >>> total.classes, total.counts, total.mean
            (array([3, 8]), array([1, 2]), array([3.]))
        """
        features = _require_features(observations)
        if groups is None:
            groups = np.zeros(len(observations.labels), dtype=np.int64)
        shift = _typical_row(features)
        return _accumulate(features, observations, groups, [shift] * (int(groups.max()) + 1), class_seconds)

    @classmethod
    def of_classes(cls, observations: Observations) -> MomentStatistics:
        """Compute the moments of every class as a group, each about its own point: classes may lie far apart."""
        features, codes = _require_features(observations), observations.codes
        take = arrays_of(features).take
        shifts = [_typical_row(take(features, np.flatnonzero(codes == code)[:64])) for code in range(codes.max() + 1)]
        return _accumulate(features, observations, codes, shifts)

    def total(self) -> Moments:
        """Combine the moments of all groups."""
        return _combine(self.groups, self.groups[0].shift)

    def without(self, group: int) -> Moments:
        """Combine the moments of all groups but one, without the classes that only that group has."""
        others = self.groups[:group] + self.groups[group + 1 :]
        return _combine(others, others[0].shift).present()

    def merge(self, other: MomentStatistics) -> MomentStatistics:
        """Add the moments group by group, for workers that share the images of a target.

        Args:
            other: Moments of other observations, with the same number of groups.

        Raises:
            ObservationsError: The numbers of groups differ.
        """
        if len(self.groups) != len(other.groups):
            raise ObservationsError(
                f"moments of {len(self.groups)} and of {len(other.groups)} groups cannot be merged: "
                "use the same number of groups for all parts"
            )
        return MomentStatistics(tuple(map(add, self.groups, other.groups)))


def _combine(parts: Sequence[Moments], shift: FloatArray) -> Moments:
    """Combine the moments of all parts, about one point."""
    classes = reduce(np.union1d, [part.classes for part in parts])
    counts, sums = np.zeros(len(classes), np.int64), np.zeros((len(classes), len(shift)))
    second, third, fourth = np.zeros_like(parts[0].second), np.zeros(len(shift)), 0.0
    steps = np.stack([part.shift - shift for part in parts])
    for part, step in zip(parts, steps, strict=True):
        positions = np.searchsorted(classes, part.classes)
        second += part.second
        counts[positions] += part.counts
        sums[positions] += part.sums + part.counts[:, None] * step
        shifted_third, shifted_fourth = part._third_and_fourth(step)
        third, fourth = third + shifted_third, fourth + shifted_fourth
    if steps.any():
        totals = np.stack([part.sums.sum(axis=0) + part.n / 2 * step for part, step in zip(parts, steps, strict=True)])
        half = totals.T @ steps
        second += half + half.T
    return Moments(classes, shift, counts, sums, second, third, fourth)


def _require_features(observations: Observations) -> Any:
    if observations.features is None:
        raise ObservationsError("features are missing; moments need the features of every observation")
    return observations.features


def _accumulate(
    features: Any,
    observations: Observations,
    groups: IntArray,
    shifts: list[FloatArray],
    with_class_seconds: bool = False,
) -> MomentStatistics:
    arrays, classes, n_groups, width = arrays_of(features), observations.classes, len(shifts), features.shape[1]
    n_classes = len(classes)
    keys = groups * n_classes + observations.codes
    counts = np.bincount(keys, minlength=n_groups * n_classes).reshape(n_groups, n_classes)
    sums, seconds = arrays.zeros(n_groups * n_classes, width), [arrays.zeros(width, width) for _ in range(n_groups)]
    thirds, fourths = arrays.zeros(n_groups, width), arrays.zeros(n_groups)
    class_seconds = arrays.zeros(n_classes, width, width) if with_class_seconds else None
    products = arrays.zeros(width, width)
    native_shifts = [arrays.of_host(shift) for shift in shifts]
    for rows, sorted_keys in keyed_blocks(features, keys):
        bounds = np.searchsorted(sorted_keys, np.arange(n_groups + 1) * n_classes)
        for group in np.flatnonzero(np.diff(bounds)):
            z = rows[bounds[group] : bounds[group + 1]]
            z -= native_shifts[group]
            squares = arrays.squared_lengths(z)
            thirds[group] += squares @ z
            fourths[group] += squares @ squares
            if class_seconds is None:
                arrays.add_products(seconds[group], z)
            else:
                own_classes = sorted_keys[bounds[group] : bounds[group + 1]] % n_classes
                _add_products_of_classes(seconds[group], class_seconds, z, own_classes, products)
        arrays.add_by_key(sums, rows, sorted_keys)
    parts = zip(
        shifts,
        counts,
        arrays.to_host(sums).reshape(n_groups, n_classes, width),
        map(arrays.symmetric, seconds),
        arrays.to_host(thirds),
        arrays.to_host(fourths),
        strict=True,
    )
    moments = (
        Moments(classes, shift, count, total, second, third, float(fourth))
        for shift, count, total, second, third, fourth in parts
    )
    return MomentStatistics(tuple(moments), class_seconds)


def _add_products_of_classes(total: Any, class_totals: Any, rows: Any, codes: IntArray, products: Any) -> None:
    """Add rows^T rows to a total (D, D), and the part of every class to its own, (C, D, D), in place."""
    arrays = arrays_of(rows)
    for code, start, end in segments(codes):
        arrays.products(rows[start:end], out=products)
        total += products
        class_totals[code] += products


def _typical_row(features: Any) -> FloatArray:
    """Return the mean of the first rows: close enough to all rows that sums of squares keep their precision."""
    arrays = arrays_of(features)
    mean: FloatArray = arrays.to_host(arrays.float64(features[:1024]).mean(axis=0))
    return mean
