"""H-score: how much of the features' variance tells the classes apart."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, scores_from_moments, single
from seg_transfer.metrics._separation import between, inverse_trace, live
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
    return inverse_trace(moments.covariance, between(moments), live(moments))


METRIC = Metric(
    name="h_score",
    version=1,
    needs=frozenset({"features"}),
    range="[0, min(D, C - 1)]",
    cost="N D^2",
    reference="Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019",
    scores=_scores,
    settings={},
    additive=True,
)
