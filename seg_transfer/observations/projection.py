"""Two-dimensional maps of observations, as in figure 4 of Pandy et al., CVPR 2022.

Every map is fitted on its own features. Features before and after fine-tuning lie in different spaces, whose directions
cannot be compared. Two maps of the same pixels are therefore fitted separately, and one is then aligned with the other;
this keeps all its distances (`procrustes_align`).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.observations import FloatArray, IntArray, random_order


@dataclass(frozen=True, eq=False)
class PlaneProjection:
    """Projection of features onto their two principal directions.

    Attributes:
        mean: (D,) the mean of the features.
        directions: (D, 2), orthonormal; the first explains more variance. The entry of largest magnitude of each is
            positive.
        explained: (2,) share of the features' variance along each direction, in [0, 1].
    """

    mean: FloatArray
    directions: FloatArray
    explained: FloatArray

    def apply(self, features: npt.NDArray[Any]) -> FloatArray:
        """Project features of the same space onto the plane.

        Args:
            features: (N, D).

        Returns:
            (N, 2).

        Raises:
            ObservationsError: The features do not have the number of channels that the projection was fitted on.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ObservationsError(
                f"features have shape {features.shape}; the projection was fitted on {len(self.mean)} channels"
            )
        points: FloatArray = (features.astype(np.float64) - self.mean) @ self.directions
        return points


def class_balanced_rows(labels: npt.NDArray[np.integer[Any]], n: int = 2000, seed: int = 0) -> IntArray:
    """Choose up to n rows: equally many of every class, or all of a class that has fewer.

    The choice depends on the labels and the seed alone: all sources of a target show the same pixels.

    Args:
        labels: (N,) integers.
        n: Number of rows to choose.
        seed: Seed of the choice.

    Returns:
        (min(n, N),) positions, ascending.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 0, 7])
        >>> labels[class_balanced_rows(labels, 2)].tolist()
        [0, 7]
    """
    priority, rank_in_class = random_order(labels, seed)
    rows: IntArray = np.sort(np.lexsort((priority, rank_in_class))[:n])
    return rows


def fit_plane(features: npt.NDArray[Any]) -> PlaneProjection:
    """Fit a projection onto the two directions of largest variance.

    Args:
        features: (N, D); where D is 1, the second direction is zero.

    Raises:
        ObservationsError: There are fewer than two rows.

    Example:
        >>> plane = fit_plane(np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [3.0, 1.0]]))
        >>> plane.directions.round(12).tolist(), plane.explained.round(12).tolist()
        ([[1.0, 0.0], [0.0, 1.0]], [0.9, 0.1])
    """
    if features.ndim != 2 or len(features) < 2:
        raise ObservationsError(
            f"features have shape {features.shape}; a map needs features (N, D) of at least two observations"
        )
    rows = features.astype(np.float64)
    mean = rows.mean(axis=0)
    _, singular, right = scipy.linalg.svd(rows - mean, full_matrices=False)
    directions, squares = np.zeros((rows.shape[1], 2)), np.zeros(2)
    n = min(2, len(right))
    directions[:, :n], squares[:n] = right[:n].T, singular[:n] ** 2
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    total = (singular**2).sum()
    return PlaneProjection(mean, directions * np.where(largest < 0, -1, 1), squares / total if total else squares)


def umap_installed() -> bool:
    """Return whether the optional library umap-learn is installed (the extra ``umap``).

    Example:
        >>> umap_installed() in (True, False)
        True
    """
    return importlib.util.find_spec("umap") is not None


def umap_points(features: npt.NDArray[Any], seed: int = 0) -> FloatArray:
    """Compute a UMAP of the features, with the library's defaults and a seed.

    Args:
        features: (N, D).
        seed: Seed of the optimization.

    Returns:
        (N, 2) coordinates.

    Raises:
        ConfigError: The extra ``umap`` is not installed.

    Example:
        >>> umap_points(np.random.default_rng(0).normal(size=(100, 8))).shape  # doctest: +SKIP
        (100, 2)
    """
    if not umap_installed():
        raise ConfigError("umap-learn is not installed, and a UMAP needs it: pip install 'seg_transfer[umap]'")
    import umap

    # With a seed the library runs only one job, and warns unless one job is requested.
    reducer = umap.UMAP(n_components=2, random_state=seed, n_jobs=1)
    points: FloatArray = np.asarray(reducer.fit_transform(features.astype(np.float32)), dtype=np.float64)
    return points


def procrustes_align(points: FloatArray, reference: FloatArray) -> FloatArray:
    """Move, rotate and, if it helps, mirror points so that they lie as close as possible to a reference.

    This is orthogonal Procrustes analysis without scaling: all distances between the points are kept.

    Args:
        points: (N, 2).
        reference: (N, 2), of the same observations.

    Returns:
        (N, 2) aligned points.

    Raises:
        ObservationsError: The shapes differ.

    Example:
        A rotated and moved triangle is aligned with the original.

        >>> triangle = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> moved = triangle @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
        >>> bool(np.allclose(procrustes_align(moved, triangle), triangle))
        True
    """
    if points.shape != reference.shape:
        raise ObservationsError(
            f"maps have shapes {points.shape} and {reference.shape}; they must show the same observations"
        )
    centered = points - points.mean(axis=0)
    rotation, _ = scipy.linalg.orthogonal_procrustes(centered, reference - reference.mean(axis=0))
    aligned: FloatArray = centered @ rotation + reference.mean(axis=0)
    return aligned
