"""TransRate: how many fewer nats the features need once their classes are known."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays.host import BLOCK_ROWS
from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, features_of, overall_score
from seg_transfer.observations import FloatArray, Observations


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

    The classes take a second pass, one class after the other, because the second moments of all classes would not fit
    into memory.
    """
    features, total = features_of(statistics), statistics.total
    order = np.argsort(statistics.observations.codes, kind="stable")
    classes = np.split(order, np.cumsum(total.counts)[:-1])
    class_rates = [_rate(_second_moment(features, rows, total.mean), eps) for rows in classes]
    return _rate(total.covariance, eps), np.array(class_rates)


def _second_moment(features: npt.NDArray[Any], rows: npt.NDArray[np.int64], center: FloatArray) -> FloatArray:
    second = np.zeros((len(center), len(center)))
    for start in range(0, len(rows), BLOCK_ROWS):
        z = features[rows[start : start + BLOCK_ROWS]].astype(np.float64)
        z -= center
        second += z.T @ z
    second /= len(rows)
    return second


def _rate(second_moment: FloatArray, eps: float) -> float:
    """Compute 1/2 logdet(I + second_moment / eps)."""
    return float(np.linalg.slogdet(np.eye(len(second_moment)) + second_moment / eps)[1]) / 2


METRIC = Metric(
    name="trans_rate",
    version=1,
    needs=frozenset({"features"}),
    range="[0, inf)",
    cost="N D^2 + C D^3",
    reference="Huang et al., Frustratingly Easy Transferability Estimation, ICML 2022",
    scores=_scores,
    settings={"eps": 1e-4},
)
