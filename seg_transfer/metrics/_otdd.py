"""OTDD: how far the target's labeled observations must be moved to become those of the source's own images."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score
from seg_transfer.metrics._distances import squared_distances
from seg_transfer.metrics._source_images import subsampled_pair
from seg_transfer.metrics._transport import coupling
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
    cost = squared_distances(x, source_x)
    cost += _label_costs(x, target.codes, source_x, source.codes)[np.ix_(target.codes, source.codes)]
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


def _label_costs(x: FloatArray, codes: IntArray, source_x: FloatArray, source_codes: IntArray) -> FloatArray:
    """Compute squared 2-Wasserstein distances (C, C_s) between the classes as Gaussians.

    They are ||m - m'||^2 + tr S + tr S' - 2 tr (S^1/2 S' S^1/2)^1/2 (Bures). The last trace is the nuclear norm of
    A A'^T for any factors of the covariances S = A^T A.
    """
    means, factors = _gaussians(x, codes)
    source_means, source_factors = _gaussians(source_x, source_codes)
    traces, source_traces = ([float(np.vdot(factor, factor)) for factor in own] for own in (factors, source_factors))
    spread = np.add.outer(traces, source_traces) - 2 * _nuclear_norms(factors, source_factors)
    costs: FloatArray = squared_distances(means, source_means) + np.maximum(spread, 0.0)
    return costs


def _gaussians(x: FloatArray, codes: IntArray) -> tuple[FloatArray, list[FloatArray]]:
    """Return the means (C, D) of the classes, and a factor A, (k, D), k <= n_c, of the covariance A^T A of each."""
    classes = [x[codes == code] for code in range(codes.max() + 1)]
    means = np.array([rows.mean(axis=0) for rows in classes])
    return means, [_factor((rows - mean) / np.sqrt(len(rows))) for rows, mean in zip(classes, means, strict=True)]


def _factor(rows: FloatArray) -> FloatArray:
    # The triangular factor has at most D rows, whereas a frequent class may have more.
    factor: FloatArray = np.linalg.qr(rows)[1] if len(rows) > rows.shape[1] else rows
    return factor


def _nuclear_norms(first: list[FloatArray], second: list[FloatArray]) -> FloatArray:
    """Compute the nuclear norm of A B^T for all pairs of factors, (C, C_s)."""
    products = np.vstack(first) @ np.vstack(second).T
    norms = np.empty((len(first), len(second)))
    for height, row_classes, rows in _by_length(first):
        for width, column_classes, columns in _by_length(second):
            # All products of one size at once: a call costs more than a small matrix.
            blocks = products[rows[:, None, :, None], columns[None, :, None, :]]
            values = np.linalg.svd(blocks.reshape(-1, height, width), compute_uv=False).sum(axis=1)
            norms[np.ix_(row_classes, column_classes)] = values.reshape(len(row_classes), -1)
    return norms


def _by_length(factors: list[FloatArray]) -> list[tuple[int, IntArray, IntArray]]:
    """Return, for every length k of factors, k, the factors of that length, and their rows (., k) among all rows."""
    lengths = np.array([len(factor) for factor in factors])
    starts = np.cumsum(lengths) - lengths
    classes = [(int(length), np.flatnonzero(lengths == length)) for length in np.unique(lengths)]
    return [(length, chosen, starts[chosen][:, None] + np.arange(length)) for length, chosen in classes]


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
