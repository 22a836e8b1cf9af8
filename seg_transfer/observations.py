"""What a transferability metric sees: a pixel sample, the observations at its pixels, and their moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.linalg.blas import dsyrk

from seg_transfer.errors import ObservationsError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BLOCK_ROWS = 4096
N_GROUPS = 10
# Squares of larger values, summed over millions of rows, would leave float64.
LARGEST_FEATURE = 1e100
# Rounding to float16 moves the sum of a row of probabilities by at most 5e-4.
PROBABILITY_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class PixelSample:
    """Which pixels of a target are used: drawn once, the same for every source and every metric.

    ``image_ids``: one per image. ``image_sizes``: (n_images, 2) int32, height and width of the map that the pixels were
    drawn from. ``image_index``, ``rows``, ``columns``: (N,) int32; the centre of a pixel, in fractions of the image, is
    ``((row + 0.5) / height, (column + 0.5) / width)``. ``labels``: (N,) integers.

    Raises ObservationsError for lengths that differ, repeated image ids, or a pixel outside its image.
    """

    image_ids: tuple[str, ...]
    image_sizes: npt.NDArray[np.int32]
    image_index: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    labels: npt.NDArray[np.integer[Any]]

    def __post_init__(self) -> None:
        for name in ("image_sizes", "image_index", "rows", "columns"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int32))
        object.__setattr__(self, "labels", np.asarray(self.labels))
        _check_integers("labels", self.labels)
        for name in ("image_index", "rows", "columns"):
            _check_length(name, getattr(self, name), len(self.labels))
        if self.image_sizes.shape != (len(self.image_ids), 2):
            raise ObservationsError(
                f"image_sizes has shape {self.image_sizes.shape}; {len(self.image_ids)} images need (n_images, 2)"
            )
        if len(set(self.image_ids)) != len(self.image_ids):
            raise ObservationsError("image_ids holds an image twice; every image of a pixel sample has its own id")
        self._check_positions()

    def __len__(self) -> int:
        return len(self.labels)

    def _check_positions(self) -> None:
        _check_range("image_index", self.image_index, len(self.image_ids))
        _check_range("rows", self.rows, self.image_sizes[self.image_index, 0])
        _check_range("columns", self.columns, self.image_sizes[self.image_index, 1])


@dataclass(frozen=True, eq=False)
class Observations:
    """A pixel sample seen through one source.

    ``features``: (N, D) real numbers of any dtype and memory order, never copied whole and never modified; None for a
    source that gives probabilities only. ``labels``: (N,) integers, with gaps if they like. ``source_probs``: (N, C_s),
    non-negative, rows sum to 1 within 1e-3. ``image_index``: (N,) integers, which image each observation comes from.

    Raises ObservationsError for NaN or infinite values, lengths that differ, rows of ``source_probs`` that are no
    distribution, fewer than two classes or fewer than two observations.
    """

    features: npt.NDArray[Any] | None
    labels: npt.NDArray[np.integer[Any]]
    source_probs: npt.NDArray[Any] | None = None
    image_index: npt.NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        for name in ("features", "labels", "source_probs", "image_index"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name)))
        if self.features is None and self.source_probs is None:
            raise ObservationsError("features and source_probs are both missing; observations need at least one")
        _check_integers("labels", self.labels)
        _check_two_classes(self.classes, len(self.labels))
        if self.features is not None:
            _check_matrix("features", self.features, len(self.labels))
        if self.source_probs is not None:
            _check_matrix("source_probs", self.source_probs, len(self.labels))
            _check_distributions(self.source_probs)
        if self.image_index is not None:
            _check_integers("image_index", self.image_index)
            _check_length("image_index", self.image_index, len(self.labels))

    @property
    def classes(self) -> npt.NDArray[np.integer[Any]]:
        """(C,) the labels present, ascending."""
        return self._classes_and_codes[0]

    @property
    def codes(self) -> IntArray:
        """(N,) the position of each label in ``classes``."""
        return self._classes_and_codes[1]

    @cached_property
    def _classes_and_codes(self) -> tuple[npt.NDArray[np.integer[Any]], IntArray]:
        classes, codes = np.unique(self.labels, return_inverse=True)
        return classes, codes.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, class sums and second moment of some observations, in float64, about the point ``shift``.

    ``classes``: (C,) labels. ``shift``: (D,). ``counts``: (C,). ``sums``: (C, D), per class the sum of x - shift.
    ``second``: (D, D), the sum of (x - shift)(x - shift)^T over all classes.
    """

    classes: npt.NDArray[np.integer[Any]]
    shift: FloatArray
    counts: IntArray
    sums: FloatArray
    second: FloatArray

    def __add__(self, other: Moments) -> Moments:
        """The moments of both together, about the shift of the left one."""
        other = other.about(self.shift)
        classes = self.classes
        if not np.array_equal(classes, other.classes):
            classes = np.union1d(classes, other.classes)
        left, right = self._with_classes(classes), other._with_classes(classes)
        return Moments(
            classes,
            self.shift,
            left.counts + right.counts,
            left.sums + right.sums,
            left.second + right.second,
        )

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
        """(C, D) mean of each class minus the mean of all; every class must be present."""
        return self.sums / self.counts[:, None] - self._mean_from_shift

    @property
    def covariance(self) -> FloatArray:
        """(D, D) covariance of all observations, divided by N."""
        mean = self._mean_from_shift
        return self.second / self.n - np.outer(mean, mean)

    def about(self, shift: FloatArray) -> Moments:
        """The same observations about another point."""
        step = self.shift - shift
        if not step.any():
            return self
        cross = np.outer(self.sums.sum(axis=0), step)
        second = self.second + (cross + cross.T) + self.n * np.outer(step, step)
        return Moments(self.classes, shift, self.counts, self.sums + self.counts[:, None] * step, second)

    def present(self) -> Moments:
        """The same without the classes that have no observation."""
        held = self.counts > 0
        return Moments(self.classes[held], self.shift, self.counts[held], self.sums[held], self.second)

    @property
    def _mean_from_shift(self) -> FloatArray:
        mean: FloatArray = self.sums.sum(axis=0) / self.n
        return mean

    def _with_classes(self, classes: npt.NDArray[np.integer[Any]]) -> Moments:
        if classes is self.classes or np.array_equal(classes, self.classes):
            return self
        places = np.searchsorted(classes, self.classes)
        counts = np.zeros(len(classes), dtype=np.int64)
        sums = np.zeros((len(classes), self.sums.shape[1]))
        counts[places], sums[places] = self.counts, self.sums
        return Moments(classes, self.shift, counts, sums, self.second)


@dataclass(frozen=True, eq=False)
class MomentStatistics:
    """The moments of every group of images: all that LogME, the H-score and the PCA of GBC need of N x D features."""

    groups: tuple[Moments, ...]

    @classmethod
    def of(cls, observations: Observations, groups: IntArray | None = None) -> MomentStatistics:
        """One pass over the features in blocks. ``groups``: (N,) numbers 0 .. n_groups - 1; None: one group.

        Raises ObservationsError where the observations have no features.
        """
        if observations.features is None:
            raise ObservationsError("features are missing; moments need the features of every observation")
        if groups is None:
            groups = np.zeros(len(observations.labels), dtype=np.int64)
        return _accumulate(observations.features, observations, groups)

    def total(self) -> Moments:
        """The moments of all groups together."""
        return reduce(add, self.groups)

    def without(self, group: int) -> Moments:
        """The moments of all groups but one, without the classes that only this group holds."""
        return reduce(add, self.groups[:group] + self.groups[group + 1 :]).present()

    def merge(self, other: MomentStatistics) -> MomentStatistics:
        """Group by group the moments of both, for workers that share the images of a target.

        Raises ObservationsError if the numbers of groups differ.
        """
        if len(self.groups) != len(other.groups):
            raise ObservationsError(
                f"moments of {len(self.groups)} and of {len(other.groups)} groups cannot be merged: "
                "use the same number of groups for all parts"
            )
        return MomentStatistics(tuple(map(add, self.groups, other.groups)))


def image_groups(image_index: npt.NDArray[np.integer[Any]]) -> IntArray:
    """(N,) the jackknife group of every observation: the rank of its image among the images present, modulo 10.

    The same images give the same groups whatever the source, so that differences between sources are paired.
    """
    rank: IntArray = np.unique(image_index, return_inverse=True)[1].astype(np.int64)
    return rank % N_GROUPS


def keyed_blocks(matrix: npt.NDArray[Any], keys: IntArray) -> Iterator[tuple[FloatArray, IntArray]]:
    """Blocks of rows as new float64 arrays, the rows of each block sorted by key, with their sorted keys."""
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        order = np.argsort(keys[block], kind="stable")
        yield matrix[block][order].astype(np.float64), keys[block][order]


def add_by_key(totals: FloatArray, rows: FloatArray, keys: IntArray) -> None:
    """Add every row to ``totals[key]``; ``keys`` are sorted."""
    present, starts = np.unique(keys, return_index=True)
    ends = np.append(starts, len(keys))
    # A sparse indicator sums runs of rows ten times faster than np.add.reduceat does along the first axis.
    indicator = scipy.sparse.csr_array(
        (np.ones(len(keys)), np.arange(len(keys)), ends), shape=(len(present), len(keys))
    )
    totals[present] += indicator @ rows


def _accumulate(features: npt.NDArray[Any], observations: Observations, groups: IntArray) -> MomentStatistics:
    n_classes, n_groups, width = len(observations.classes), int(groups.max()) + 1, features.shape[1]
    keys = groups * n_classes + observations.codes
    shift = _typical_row(features)
    counts = np.bincount(keys, minlength=n_groups * n_classes).reshape(n_groups, n_classes)
    sums = np.zeros((n_groups * n_classes, width))
    seconds = [np.zeros((width, width), order="F") for _ in range(n_groups)]
    for rows, sorted_keys in keyed_blocks(features, keys):
        rows -= shift
        add_by_key(sums, rows, sorted_keys)
        bounds = np.searchsorted(sorted_keys, np.arange(n_groups + 1) * n_classes)
        for group in np.flatnonzero(np.diff(bounds)):
            part = rows[bounds[group] : bounds[group + 1]]
            seconds[group] = dsyrk(1.0, part.T, beta=1.0, c=seconds[group], overwrite_c=True)
    by_group = sums.reshape(n_groups, n_classes, width)
    return MomentStatistics(
        tuple(
            Moments(observations.classes, shift, counts[group], by_group[group], _mirrored(seconds[group]))
            for group in range(n_groups)
        )
    )


def _typical_row(features: npt.NDArray[Any]) -> FloatArray:
    """Mean of the first rows: near enough to all of them for sums of squares to keep their digits."""
    mean: FloatArray = features[:1024].astype(np.float64).mean(axis=0)
    return mean


def _mirrored(upper: FloatArray) -> FloatArray:
    full: FloatArray = np.triu(upper)
    full += np.triu(upper, 1).T
    return full


def _check_integers(name: str, values: npt.NDArray[Any]) -> None:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ObservationsError(
            f"{name} has shape {values.shape} and dtype {values.dtype}; it must be one row of integers (N,)"
        )


def _check_length(name: str, values: npt.NDArray[Any], length: int) -> None:
    if values.shape != (length,):
        raise ObservationsError(f"{name} has shape {values.shape}; {length} labels need shape ({length},)")


def _check_range(name: str, values: npt.NDArray[Any], end: int | npt.NDArray[Any]) -> None:
    outside = np.flatnonzero((values < 0) | (values >= end))
    if len(outside):
        place = outside[0]
        limit = np.broadcast_to(end, values.shape)[place]
        raise ObservationsError(f"{name}[{place}] is {values[place]}; it must lie in 0 .. {limit - 1}")


def _check_two_classes(classes: npt.NDArray[Any], n_observations: int) -> None:
    if len(classes) < 2:
        raise ObservationsError(
            f"labels hold {len(classes)} class(es) in {n_observations} observation(s); "
            "a metric needs two classes and two observations at least: sample more images"
        )


def _check_matrix(name: str, values: npt.NDArray[Any], length: int) -> None:
    if values.ndim != 2 or len(values) != length or values.shape[1] == 0:
        raise ObservationsError(f"{name} has shape {values.shape}; {length} labels need shape ({length}, > 0)")
    if values.dtype.kind not in "fiu":
        raise ObservationsError(f"{name} has dtype {values.dtype}; it must hold real numbers")
    for start in range(0, length, BLOCK_ROWS):
        block = values[start : start + BLOCK_ROWS]
        if not _all_usable(block):
            row, column = np.argwhere(~(np.abs(block.astype(np.float64)) < LARGEST_FEATURE))[0]
            raise ObservationsError(
                f"{name}[{start + row}, {column}] is {block[row, column]}; every value must be finite and below "
                f"{LARGEST_FEATURE:g} in size: leave that image out or mend its source"
            )


def _all_usable(block: npt.NDArray[Any]) -> bool:
    if block.dtype.itemsize <= 4:
        return bool(np.isfinite(block).all())
    return bool(block.min() > -LARGEST_FEATURE and block.max() < LARGEST_FEATURE)


def _check_distributions(source_probs: npt.NDArray[Any]) -> None:
    for start in range(0, len(source_probs), BLOCK_ROWS):
        block = source_probs[start : start + BLOCK_ROWS].astype(np.float64)
        sums = block.sum(axis=1)
        wrong = (np.abs(sums - 1) > PROBABILITY_TOLERANCE) | (block.min(axis=1) < 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ObservationsError(
                f"source_probs[{start + row}] sums to {sums[row]:.6g} with smallest value {block[row].min():.6g}; "
                "a row must be non-negative and sum to 1: pass probabilities, not scores"
            )
