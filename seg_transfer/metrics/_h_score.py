"""H-score: the share of the features' variance that separates the classes."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, scores_from_moments
from seg_transfer.metrics._separation import between_class_rows, inverse_trace, varying_channels
from seg_transfer.observations import Moments, Observations


def h_score(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the H-score, tr(cov(f)^+ cov(E[f | y])).

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019. Both
    covariances are divided by N. Channels that do not vary are dropped, and the others are scaled to unit variance.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.

    Returns:
        A number in [0, min(D, C - 1)]; higher is better.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.

    Example:
        The variance is 5, and (1 - 3)^2 = 4 of it lies between the class means 1 and 5.

        >>> round(h_score(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])), 12)
        0.8
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels))))


def _scores(statistics: Statistics) -> Scores:
    return scores_from_moments(statistics, _score)


def _score(moments: Moments) -> float:
    return inverse_trace(moments.covariance, between_class_rows(moments), varying_channels(moments))


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
