"""The observations at a pixel sample, validated once and frozen, and their division into groups of images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays import IntArray, arrays_of, is_tensor
from seg_transfer.errors import ObservationsError
from seg_transfer.observations._checks import (
    check_distributions,
    check_integers,
    check_length,
    check_matrix,
    check_pixel_counts,
    check_two_classes,
)

N_GROUPS = 10


@dataclass(frozen=True, eq=False)
class Observations:
    """A pixel sample seen through one source.

    Attributes:
        features: (N, D) real numbers of any dtype and memory order, never copied whole and never modified, in NumPy or
            in a torch tensor on any device; None for a source that gives probabilities only.
        labels: (N,) integers, not necessarily contiguous.
        source_probs: (N, C_s), non-negative, rows sum to 1 within 1e-3; like ``features``, an array or a tensor.
        image_index: (N,) integers, the image of each observation.
        image_embeddings: (M, D), one vector per whole image, in ascending order of the M distinct values of
            ``image_index``.
        source_images: The observations of the source's own images, seen through the same source.
        class_pixels: (C,) integers, the number of labeled pixels of each class of ``classes`` in all label maps that
            the observations were drawn from.

    Raises:
        ObservationsError: Values are NaN or infinite, lengths differ, a row of ``source_probs`` is not a distribution,
            a class has no pixel, or there are fewer than two classes or two observations.

    Example:
        >>> observations = Observations(features=np.eye(3), labels=np.array([7, 2, 7]))
        >>> observations.classes, observations.codes
        (array([2, 7]), array([1, 0, 1]))
    """

    features: Any
    labels: npt.NDArray[np.integer[Any]]
    source_probs: Any = None
    image_index: npt.NDArray[np.integer[Any]] | None = None
    image_embeddings: npt.NDArray[Any] | None = None
    source_images: Observations | None = None
    class_pixels: npt.NDArray[np.integer[Any]] | None = None

    def __post_init__(self) -> None:
        for name in ("features", "labels", "source_probs", "image_index", "image_embeddings", "class_pixels"):
            value = getattr(self, name)
            if value is not None and not (name in ("features", "source_probs") and is_tensor(value)):
                object.__setattr__(self, name, np.asarray(value))
        if self.features is None and self.source_probs is None:
            raise ObservationsError("features and source_probs are both missing; observations need at least one")
        check_integers("labels", self.labels)
        check_two_classes(self.classes, len(self.labels))
        if self.features is not None:
            check_matrix("features", self.features, len(self.labels))
        if self.source_probs is not None:
            check_matrix("source_probs", self.source_probs, len(self.labels))
            check_distributions(self.source_probs)
        if self.image_index is not None:
            check_integers("image_index", self.image_index)
            check_length("image_index", self.image_index, len(self.labels))
        if self.image_embeddings is not None:
            if self.image_index is None:
                raise ObservationsError(
                    "image_embeddings are given without image_index; say which image each observation comes from"
                )
            check_matrix("image_embeddings", self.image_embeddings, len(np.unique(self.image_index)), "images")
        if self.class_pixels is not None:
            check_pixel_counts(self.class_pixels, self.classes)

    def subset(self, rows: npt.NDArray[Any]) -> Observations:
        """Select some of the observations, with the embeddings of their images and the pixels of their classes.

        Args:
            rows: A mask (N,), or positions in ascending order.

        Raises:
            ObservationsError: Fewer than two classes are left.

        Example:
            >>> observations = Observations(np.array([[1.0], [2.0], [3.0]]), np.array([7, 2, 7]))
            >>> observations.subset(np.array([True, True, False])).labels
            array([7, 2])
        """
        embeddings = self.image_embeddings
        if embeddings is not None and self.image_index is not None:
            embeddings = embeddings[np.isin(np.unique(self.image_index), self.image_index[rows])]
        class_pixels = self.class_pixels
        if class_pixels is not None:
            class_pixels = class_pixels[np.isin(self.classes, self.labels[rows])]
        return replace(
            self,
            features=_taken(self.features, rows),
            labels=self.labels[rows],
            source_probs=_taken(self.source_probs, rows),
            image_index=None if self.image_index is None else self.image_index[rows],
            image_embeddings=embeddings,
            class_pixels=class_pixels,
        )

    def subsample(self, n: int, seed: int) -> Observations:
        """Select at most ``n`` observations, equally many from every image; all of them where there are no more than n.

        The choice depends on their positions, their images and the seed alone: all sources of a target keep the same
        pixels.

        Args:
            n: Number of observations to keep.
            seed: Seed of the choice.

        Example:
            >>> images = np.array([0, 0, 0, 0, 1, 1])
            >>> observations = Observations(np.ones((6, 1)), np.array([0, 1, 0, 1, 0, 1]), image_index=images)
            >>> observations.subsample(4, seed=0).image_index
            array([0, 0, 1, 1])
        """
        return self if n >= len(self.labels) else self.subset(self.subsampled_rows(n, seed))

    def subsampled_rows(self, n: int, seed: int) -> IntArray:
        """Return the positions of what `subsample` selects, (min(n, N),), ascending."""
        if seed not in self._subsampling_orders:
            images = np.zeros(len(self.labels), np.int64) if self.image_index is None else self.image_index
            self._subsampling_orders[seed] = np.lexsort(random_order(images, seed))
        rows: IntArray = np.sort(self._subsampling_orders[seed][:n])
        return rows

    def in_numpy(self) -> Observations:
        """Return the same observations with features and probabilities in NumPy, in their own precision.

        Example:
            >>> Observations(np.eye(2), np.array([0, 1])).in_numpy().features.tolist()
            [[1.0, 0.0], [0.0, 1.0]]
        """
        return replace(self, features=_numpy(self.features), source_probs=_numpy(self.source_probs))

    @property
    def classes(self) -> npt.NDArray[np.integer[Any]]:
        """(C,) the labels that occur, ascending."""
        return self._classes_and_codes[0]

    @property
    def codes(self) -> IntArray:
        """(N,) the position of each label in ``classes``."""
        return self._classes_and_codes[1]

    @cached_property
    def constant_features(self) -> IntArray:
        """The features that are equal in all observations, by exact equality; none where the features are unknown."""
        return _constant_columns(self.features)

    @cached_property
    def constant_inputs(self) -> frozenset[str]:
        """Those of "features" and "source_probs" that are equal in all observations, by exact equality.

        Example:
            >>> Observations(np.ones((2, 1)), np.array([0, 1]), np.eye(2)).constant_inputs
            frozenset({'features'})
        """
        constant = {"features": self.features is not None and len(self.constant_features) == self.features.shape[1]}
        probs = self.source_probs
        constant["source_probs"] = probs is not None and len(_constant_columns(probs)) == probs.shape[1]
        return frozenset(name for name, is_constant in constant.items() if is_constant)

    @cached_property
    def _subsampling_orders(self) -> dict[int, IntArray]:
        """The order in which subsamples take the observations, (N,), by seed: the metrics of a pair share it."""
        return {}

    @cached_property
    def _classes_and_codes(self) -> tuple[npt.NDArray[np.integer[Any]], IntArray]:
        classes, codes = np.unique(self.labels, return_inverse=True)
        return classes, codes.astype(np.int64)


def _taken(matrix: Any, rows: npt.NDArray[Any]) -> Any:
    return None if matrix is None else arrays_of(matrix).take(matrix, rows)


def _numpy(matrix: Any) -> Any:
    return matrix if matrix is None else arrays_of(matrix).to_host(matrix)


def _constant_columns(matrix: Any) -> IntArray:
    return np.empty(0, np.int64) if matrix is None else arrays_of(matrix).constant_columns(matrix)


def image_groups(image_index: npt.NDArray[np.integer[Any]]) -> IntArray:
    """Return the jackknife group of every observation: the rank of its image among those that occur, modulo 10.

    The same images give the same groups for every source, so that differences between sources are paired.

    Args:
        image_index: (N,) integers.

    Returns:
        (N,) groups 0 .. min(10, number of images) - 1.

    Example:
        >>> image_groups(np.array([40, 40, 7, 99]))
        array([1, 1, 0, 2])
    """
    rank: IntArray = np.unique(image_index, return_inverse=True)[1].astype(np.int64)
    return rank % N_GROUPS


def random_order(keys: npt.NDArray[np.integer[Any]], seed: int) -> tuple[npt.NDArray[np.uint64], IntArray]:
    """Draw a random number for every row, and rank the rows that share a key by these numbers.

    Both depend on the positions of the rows, the keys and the seed alone.

    Args:
        keys: (N,) integers.
        seed: Seed of the random numbers.

    Returns:
        (N,) random numbers, and (N,) ranks that count from 0 within each key.

    Example:
        >>> _, rank = random_order(np.array([4, 4, 9, 4]), seed=0)
        >>> sorted(rank[[0, 1, 3]].tolist()), int(rank[2])
        ([0, 1, 2], 0)
    """
    priority = np.random.Philox(key=seed).random_raw(len(keys))
    order = np.lexsort((priority, keys))
    _, starts, key = np.unique(keys[order], return_index=True, return_inverse=True)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts[key]
    return priority, rank
