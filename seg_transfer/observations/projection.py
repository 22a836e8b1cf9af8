"""Maps of observations in two dimensions, for people to look at, as in figure 4 of Pandy et al., CVPR 2022.

Every map is fitted on features of its own. Features before and after fine-tuning lie in two spaces, in which the same
directions mean nothing: two maps of the same pixels are made each by itself, and one is then turned onto the other,
which keeps all its distances (`turned_onto`).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.observations import FloatArray, IntArray, drawn_order


@dataclass(frozen=True, eq=False)
class PlaneProjection:
    """The two principal directions of some features.

    ``mean``: (D,). ``directions``: (D, 2), orthonormal, the first explains more; in each the entry of the largest size
    is positive. ``explained``: (2,) share of the variance of the features along each, in [0, 1].
    """

    mean: FloatArray
    directions: FloatArray
    explained: FloatArray

    def apply(self, features: npt.NDArray[Any]) -> FloatArray:
        """Where features (N, D) of the same space lie in the plane: (N, 2)."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ObservationsError(
                f"features have shape {features.shape}; the projection was fitted on {len(self.mean)} channels"
            )
        points: FloatArray = (features.astype(np.float64) - self.mean) @ self.directions
        return points


def balanced_rows(labels: npt.NDArray[np.integer[Any]], n: int = 2000, seed: int = 0) -> IntArray:
    """Rows of up to n observations, ascending: as many of every class as of any other, or all where it has fewer.

    Which ones depends on the labels and the seed alone: all sources of a target show the same pixels.
    """
    priority, place_in_class = drawn_order(labels, seed)
    rows: IntArray = np.sort(np.lexsort((priority, place_in_class))[:n])
    return rows


def fit_plane(features: npt.NDArray[Any]) -> PlaneProjection:
    """The two directions of the largest variance of features (N, D); D of 1 has an empty second one.

    Raises ObservationsError unless there are two rows or more.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ObservationsError(f"features have shape {features.shape}; a map needs two observations (N, D) or more")
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
    """Whether the extra umap is there."""
    return importlib.util.find_spec("umap") is not None


def umap_points(features: npt.NDArray[Any], seed: int = 0) -> FloatArray:
    """A UMAP of features (N, D): (N, 2), with the library's defaults and a seed.

    Raises ConfigError where the extra umap is not installed.
    """
    if not umap_installed():
        raise ConfigError("a UMAP needs a library that is not installed: pip install 'seg_transfer[umap]'")
    import umap

    # One job: with a seed the library has no other way, and warns where it is left to find that out.
    reducer = umap.UMAP(n_components=2, random_state=seed, n_jobs=1)
    points: FloatArray = np.asarray(reducer.fit_transform(features.astype(np.float32)), dtype=np.float64)
    return points


def turned_onto(points: FloatArray, reference: FloatArray) -> FloatArray:
    """The points (N, 2) moved, turned and perhaps mirrored to lie as near as can be to those of the reference (N, 2).

    Orthogonal Procrustes analysis: nothing is stretched, so all distances between the points stay as they are.
    """
    if points.shape != reference.shape:
        raise ObservationsError(f"maps of shape {points.shape} and {reference.shape} do not show the same observations")
    centred = points - points.mean(axis=0)
    turn, _ = scipy.linalg.orthogonal_procrustes(centred, reference - reference.mean(axis=0))
    turned: FloatArray = centred @ turn + reference.mean(axis=0)
    return turned
