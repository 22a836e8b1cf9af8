"""A pixel sample, and the observations at its pixels: checked once, frozen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ObservationsError
from seg_transfer.observations._blocks import BLOCK_ROWS, IntArray

N_GROUPS = 10
# Fourth powers of larger values, summed over millions of rows, would leave float64.
LARGEST_FEATURE = 1e70
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
    ``image_embeddings``: (M, D), one vector per whole image, in the order of the M different numbers in
    ``image_index``. ``source_images``: the observations of the source's own images, seen through the same source.

    Raises ObservationsError for NaN or infinite values, lengths that differ, rows of ``source_probs`` that are no
    distribution, fewer than two classes or fewer than two observations.
    """

    features: npt.NDArray[Any] | None
    labels: npt.NDArray[np.integer[Any]]
    source_probs: npt.NDArray[Any] | None = None
    image_index: npt.NDArray[np.integer[Any]] | None = None
    image_embeddings: npt.NDArray[Any] | None = None
    source_images: Observations | None = None

    def __post_init__(self) -> None:
        for name in ("features", "labels", "source_probs", "image_index", "image_embeddings"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name)))
        if self.features is None and self.source_probs is None:
            raise ObservationsError("features and source_probs are both missing; observations need at least one")
        _check_integers("labels", self.labels)
        _check_two_classes(self.classes, len(self.labels))
        if self.features is not None:
            check_matrix("features", self.features, len(self.labels))
        if self.source_probs is not None:
            check_matrix("source_probs", self.source_probs, len(self.labels))
            _check_distributions(self.source_probs)
        if self.image_index is not None:
            _check_integers("image_index", self.image_index)
            _check_length("image_index", self.image_index, len(self.labels))
        if self.image_embeddings is not None:
            if self.image_index is None:
                raise ObservationsError("image_embeddings without image_index; say which image each observation is of")
            check_matrix("image_embeddings", self.image_embeddings, len(np.unique(self.image_index)), "images")

    def taken(self, rows: npt.NDArray[Any]) -> Observations:
        """Some of the observations: ``rows`` is a mask (N,) or positions in ascending order."""
        embeddings = self.image_embeddings
        if embeddings is not None and self.image_index is not None:
            embeddings = embeddings[np.isin(np.unique(self.image_index), self.image_index[rows])]
        return replace(
            self,
            features=None if self.features is None else self.features[rows],
            labels=self.labels[rows],
            source_probs=None if self.source_probs is None else self.source_probs[rows],
            image_index=None if self.image_index is None else self.image_index[rows],
            image_embeddings=embeddings,
        )

    def thinned(self, n: int, seed: int) -> Observations:
        """``n`` of the observations, as many from every image as from any other, or all if there are no more than n.

        Which ones depends on their positions, their images and the seed: all sources of a target keep the same pixels.
        """
        if n >= len(self.labels):
            return self
        images = np.zeros(len(self.labels), np.int64) if self.image_index is None else self.image_index
        priority, place_in_image = drawn_order(images, seed)
        return self.taken(np.sort(np.lexsort((priority, place_in_image))[:n]))

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


def image_groups(image_index: npt.NDArray[np.integer[Any]]) -> IntArray:
    """(N,) the jackknife group of every observation: the rank of its image among the images present, modulo 10.

    The same images give the same groups whatever the source, so that differences between sources are paired.
    """
    rank: IntArray = np.unique(image_index, return_inverse=True)[1].astype(np.int64)
    return rank % N_GROUPS


def drawn_order(keys: npt.NDArray[np.integer[Any]], seed: int) -> tuple[npt.NDArray[np.uint64], IntArray]:
    """(N,) random numbers, and (N,) the place of every row among those of its key when they are in the order of these.

    Both depend on the positions of the rows, the keys and the seed alone.
    """
    priority = np.random.Philox(key=seed).random_raw(len(keys))
    order = np.lexsort((priority, keys))
    _, starts, key = np.unique(keys[order], return_index=True, return_inverse=True)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - starts[key]
    return priority, place


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


def check_matrix(name: str, values: npt.NDArray[Any], length: int, rows: str = "labels") -> None:
    """Raises ObservationsError unless values are (length, > 0) finite real numbers. ``rows``: what they are of."""
    if values.ndim != 2 or len(values) != length or values.shape[1] == 0:
        raise ObservationsError(f"{name} has shape {values.shape}; {length} {rows} need shape ({length}, > 0)")
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
