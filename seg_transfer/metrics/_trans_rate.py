"""TransRate: how many fewer nats the features need once their classes are known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf

from seg_transfer.arrays import arrays_of
from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, features_of, overall_score
from seg_transfer.observations import FloatArray, Observations
from seg_transfer.observations.passes import second_moment


def trans_rate(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]], *, eps: float = 1e-4) -> float:
    """Compute TransRate, R(Z) - R(Z | Y): the mutual information of features and labels measured by coding rates.

    Huang et al., "Frustratingly Easy Transferability Estimation", ICML 2022. R(Z) = 1/2 logdet(I + Z^T Z / (n eps)) for
    n rows; R(Z | Y) is the mean of the classes' rates, with each class weighted by its share of the observations. All
    features are centered by the overall mean. Public implementations differ: some weight the classes equally, some
    scale the features first.

    Args:
        features: (N, D).
        labels: (N,) integers.
        eps: Distortion, > 0, in squared units of the features.

    Returns:
        A number >= 0 in nats; higher is better. The scale of the features matters.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        >>> features = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> bool(np.isclose(trans_rate(features, np.array([0, 0, 1, 1]), eps=1.0), np.log(1.5) - np.log(2) / 2))
        True
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels)), eps=eps))


def _scores(statistics: Statistics, *, eps: float) -> Scores:
    check_setting(eps > 0, "eps", eps, "above 0")
    total_rate, class_rates = coding_rates(statistics, eps)
    counts = statistics.total.counts
    return [max(total_rate - float(counts @ class_rates / counts.sum()), 0.0)]


def coding_rates(statistics: Statistics, eps: float) -> tuple[float, FloatArray]:
    """Compute R(Z), and R of every class, (C,).

    Where the second moments of all classes would not fit into memory, the classes take a second pass, one after the
    other.
    """
    rates = [_rate(second, eps) for second in _second_moments(statistics)]
    return _rate(statistics.total.covariance, eps), np.array(rates)


def _second_moments(statistics: Statistics) -> Iterator[FloatArray]:
    """Yield the mean of (x - mean)(x - mean)^T of every class in turn, (D, D), of which the upper triangle is right."""
    total, kept = statistics.total, statistics.class_moments
    if kept is not None:
        return (_about(part.covariance, part.mean - total.mean) for part in kept.groups)
    if statistics.moments.class_seconds is not None:
        return _of_shared_pass(statistics)
    order = np.argsort(statistics.observations.codes, kind="stable")
    by_class = np.split(order, np.cumsum(total.counts)[:-1])
    return (second_moment(features_of(statistics), rows, total.mean) for rows in by_class)


def _of_shared_pass(statistics: Statistics) -> Iterator[FloatArray]:
    total, seconds = statistics.total, statistics.moments.class_seconds
    arrays, step = arrays_of(seconds), total.shift - total.mean
    for second, offsets, count in zip(seconds, total.sums, total.counts, strict=True):
        yield _about(arrays.to_host(second) / count, step, offsets / count)


def _about(second: FloatArray, step: FloatArray, mean: FloatArray | float = 0.0) -> FloatArray:
    """Return the mean of (z + step)(z + step)^T from that of z z^T, (D, D), and the mean of z, (D,)."""
    half = np.outer(mean + step / 2, step)
    return second + half + half.T


def _rate(second_moment: FloatArray, eps: float) -> float:
    """Compute 1/2 logdet(I + second_moment / eps) from the upper triangle."""
    matrix = second_moment / eps
    np.einsum("ii->i", matrix)[...] += 1.0
    # The upper triangle in C's order is the lower one in Fortran's.
    factor, failed = dpotrf(matrix.T, lower=1, overwrite_a=1)
    if failed:  # Rounding beside a variance 10^15 times eps: LU does not need a positive definite matrix.
        matrix = second_moment / eps
        full = np.triu(matrix) + np.triu(matrix, 1).T + np.eye(len(matrix))
        return float(np.linalg.slogdet(full)[1]) / 2
    return float(np.log(np.diag(factor)).sum())


METRIC = Metric(
    name="trans_rate",
    version=1,
    needs=frozenset({"features"}),
    range="[0, inf)",
    cost="N D^2 + C D^3",
    reference="Huang et al., Frustratingly Easy Transferability Estimation, ICML 2022",
    scores=_scores,
    settings={"eps": 1e-4},
    by_class=True,
)
