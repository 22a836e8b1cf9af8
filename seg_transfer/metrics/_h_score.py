"""H-score: between-class variance of the features in units of their total covariance."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from seg_transfer.metrics._base import Metric, Scores, Statistics, scores_from_moments, single
from seg_transfer.observations import Moments, Observations


def h_score(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """tr(cov(f)^+ cov(E[f | y])), the H-score of Bao et al., "An Information-Theoretic Approach to Transferability in
    Task Transfer Learning", ICIP 2019.

    Both covariances are divided by N. Channels that do not vary are dropped, the others scaled to unit variance.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.

    Returns:
        A number in [0, min(D, C - 1)]; higher is better.

    Raises:
        ObservationsError: NaN or infinite features, fewer than two classes or observations.

    >>> round(h_score(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])), 12)
    0.8
    """
    return single(_scores(Statistics.ungrouped(Observations(features, labels))))


def _scores(statistics: Statistics) -> Scores:
    return scores_from_moments(statistics, _score)


def _score(moments: Moments) -> float:
    covariance, epsilon = moments.covariance, np.finfo(np.float64).eps
    # Whatever varies by less than the last digit of its own mean is rounding.
    varies = np.diag(covariance) > (epsilon * moments.mean) ** 2
    if not varies.any():
        return 0.0
    deviation = np.sqrt(np.diag(covariance)[varies])
    eigenvalues, vectors = scipy.linalg.eigh(covariance[np.ix_(varies, varies)] / np.outer(deviation, deviation))
    kept = eigenvalues > len(eigenvalues) * epsilon * eigenvalues[-1]
    weights = np.sqrt(moments.counts / moments.n)[:, None]
    between = weights * moments.class_offsets[:, varies] / deviation
    return float(((between @ vectors[:, kept]) ** 2 / eigenvalues[kept]).sum())


METRIC = Metric(
    name="h_score",
    needs=frozenset({"features"}),
    range="[0, min(D, C - 1)]",
    reference="Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019",
    scores=_scores,
    settings={},
)
