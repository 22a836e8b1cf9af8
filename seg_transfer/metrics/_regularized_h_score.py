"""Regularized H-score: the H-score with a covariance that is shrunk toward a multiple of the identity."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, scores_from_moments
from seg_transfer.metrics._separation import between_class_rows, inverse_trace, varying_channels
from seg_transfer.observations import Moments, Observations


def regularized_h_score(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the H-score with a shrunk covariance, tr(cov_a(f)^-1 (1 - a) cov(E[f | y])).

    Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities, stability and
    performance", 2021. cov_a = (1 - a) cov + a tr(cov) / D I, with the shrinkage a of Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004. Both covariances are divided by N, as
    theirs is. Public code divides the second by N - 1, and its values are N / (N - 1) times as large.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.

    Returns:
        A number in [0, min(D, C - 1)]; higher is better.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.

    Example:
        A single channel can only be shrunk toward itself, so that the score is the H-score.

        >>> round(regularized_h_score(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])), 12)
        0.8
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels))))


def _scores(statistics: Statistics) -> Scores:
    return scores_from_moments(statistics, _score)


def _score(moments: Moments) -> float:
    covariance, shrinkage = moments.covariance, ledoit_wolf_shrinkage(moments)
    varies = varying_channels(moments)
    shrunk = (1 - shrinkage) * covariance
    if shrinkage > 0:
        # The multiple of the identity gives a variance to channels that have none.
        shrunk.flat[:: len(shrunk) + 1] += shrinkage * np.trace(covariance) / len(covariance)
        varies[:] = varies.any()
    return (1 - shrinkage) * inverse_trace(shrunk, between_class_rows(moments), varies)


def ledoit_wolf_shrinkage(moments: Moments) -> float:
    """Compute the weight of the identity in [0, 1]: the covariance's error over its distance from a multiple of it."""
    covariance = moments.covariance
    square = float(np.vdot(covariance, covariance))
    distance = square - np.trace(covariance) ** 2 / len(covariance)
    if distance <= 0:
        return 0.0
    error = (moments.central_fourth - square) / moments.n
    return float(np.clip(error / distance, 0.0, 1.0))


METRIC = Metric(
    name="regularized_h_score",
    version=1,
    needs=frozenset({"features"}),
    range="[0, min(D, C - 1)]",
    cost="N D^2",
    reference="Ibrahim et al., Newer is not always better: Rethinking transferability metrics, 2021",
    scores=_scores,
    settings={},
    additive=True,
)
