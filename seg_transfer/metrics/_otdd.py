"""OTDD: how far the target's labeled observations must be moved to become those of the source's own images."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score
from seg_transfer.metrics._transport import coupling, subsampled_pair
from seg_transfer.observations import FloatArray, IntArray, Observations


def otdd(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    source_features: npt.NDArray[Any],
    source_labels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 2000,
    seed: int = 0,
) -> float:
    """Compute minus the optimal transport dataset distance.

    Alvarez-Melis and Fusi, "Geometric Dataset Distances via Optimal Transport", NeurIPS 2020: the 2-Wasserstein
    distance between the two sets of observations, where moving (x, y) to (x', y') costs ||x - x'||^2 + W^2(y, y'), with
    the 2-Wasserstein distance W between the two classes as Gaussians. The coupling is exact, whereas the authors
    regularize it and correct for that (debiased Sinkhorn). Means and covariances (divided by n_c) are those of the
    observations used. Fewer observations are farther apart, so compare scores from equal numbers of observations.

    Args:
        features: (N, D).
        labels: (N,) integers.
        source_features: (N_s, D), features of the source's own images through the source.
        source_labels: (N_s,) integers, the source's classes.
        max_observations: At most this many observations of either side are used, equally many from every image.
        seed: Seed of the choice of observations.

    Returns:
        A number in (-inf, 0], in the units of the features; higher is better.

    Raises:
        ObservationsError: Features hold NaN or infinite values, there are fewer than two classes or observations, or
            the sides differ in width.
        ConfigError: A setting is outside its range, or POT is not installed (the extra ``ot``).

    Example:
        Every observation and every class mean moves by 1, at a cost of 1 + 1.

        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> round(otdd(features, labels, features + 1, labels) ** 2, 12)
        2.0
    """
    observations = Observations(features, labels, source_images=Observations(source_features, source_labels))
    statistics = Statistics.ungrouped(observations)
    return overall_score(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    target, source = subsampled_pair(statistics.observations, max_observations, seed)
    (x, mean), (source_x, source_mean) = _centered(target), _centered(source)
    label_costs = _label_costs(_gaussians(x, target.codes), _gaussians(source_x, source.codes))
    cost = cdist(x, source_x, "sqeuclidean")
    cost += label_costs[np.ix_(target.codes, source.codes)]
    n, m = cost.shape
    plan = coupling("otdd", cost, np.full(n, float(m)), np.full(m, float(n)))
    # A shift between the sides adds its square to every coupling's mean ||x - x'||^2, and again by the class means.
    shift = 2 * ((mean - source_mean) ** 2).sum()
    return [-float(np.sqrt(np.vdot(plan, cost) / (n * m) + shift))]


def _centered(observations: Observations) -> tuple[FloatArray, FloatArray]:
    assert observations.features is not None
    x = observations.features.astype(np.float64)
    mean: FloatArray = x.mean(axis=0)
    x -= mean
    return x, mean


def _gaussians(x: FloatArray, codes: IntArray) -> list[tuple[FloatArray, FloatArray]]:
    """Return the mean (D,) of every class and a factor A, (k, D), k <= n_c, of its covariance A^T A."""
    classes = [x[codes == code] for code in range(codes.max() + 1)]
    return [(rows.mean(axis=0), _factor(rows)) for rows in classes]


def _factor(rows: FloatArray) -> FloatArray:
    # The triangular factor has at most D rows, whereas a frequent class has far more.
    factor: FloatArray = np.linalg.qr((rows - rows.mean(axis=0)) / np.sqrt(len(rows)))[1]
    return factor


def _label_costs(
    target: list[tuple[FloatArray, FloatArray]], source: list[tuple[FloatArray, FloatArray]]
) -> FloatArray:
    """Return squared 2-Wasserstein distances (C, C_s) between the classes as Gaussians (Bures)."""
    return np.array([[_squared_wasserstein(first, second) for second in source] for first in target])


def _squared_wasserstein(first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]) -> float:
    """Compute ||m - m'||^2 + tr S + tr S' - 2 tr (S^1/2 S' S^1/2)^1/2; the last trace is the nuclear norm of A A'^T."""
    (mean, factor), (other_mean, other_factor) = first, second
    common = np.linalg.norm(factor @ other_factor.T, "nuc")
    spread = (factor**2).sum() + (other_factor**2).sum() - 2 * common
    return float(((mean - other_mean) ** 2).sum() + max(spread, 0.0))


METRIC = Metric(
    name="otdd",
    version=1,
    needs=frozenset({"features", "source_images"}),
    range="(-inf, 0]",
    cost="n^2 D + n^3",
    reference="Alvarez-Melis and Fusi, Geometric Dataset Distances via Optimal Transport, NeurIPS 2020",
    scores=_scores,
    settings={"max_observations": 2000, "seed": 0},
    extra="ot",
)
