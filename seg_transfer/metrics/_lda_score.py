"""The trace criterion of linear discriminant analysis: scatter between classes over scatter within them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, scores_from_moments
from seg_transfer.metrics._separation import EPSILON, between_class_rows, inverse_trace
from seg_transfer.observations import Moments, Observations

# Relative rounding error of a variance that is the difference of two sums of equal size.
ROUNDING = 1e-13


def lda_score(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the trace criterion of Fisher's discriminant analysis, tr(S_w^+ S_b).

    Fukunaga, "Introduction to Statistical Pattern Recognition", 1990. S_w and S_b are the scatter within and between
    the classes, both divided by N. The inverse is the Moore-Penrose inverse in the units of the features: a direction
    in which no class varies does not count, even where it separates the classes perfectly (such directions always exist
    when D > N - C).

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.

    Returns:
        A number >= 0; higher is better.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.

    Example:
        The scatter is 4 between the class means 1 and 5, and 1 within the classes.

        >>> round(lda_score(np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])), 9)
        4.0
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels))))


def _scores(statistics: Statistics) -> Scores:
    return scores_from_moments(statistics, _score)


def _score(moments: Moments) -> float:
    rows = between_class_rows(moments)
    within = moments.covariance - rows.T @ rows
    total = np.diag(moments.covariance)
    varies = np.diag(within) > np.maximum(ROUNDING * total, (EPSILON * moments.mean) ** 2)
    return inverse_trace(within, rows, varies, rounding=len(total) * EPSILON * float(total.sum()))


METRIC = Metric(
    name="lda_score",
    version=1,
    needs=frozenset({"features"}),
    range="[0, inf)",
    cost="N D^2",
    reference="Fukunaga, Introduction to Statistical Pattern Recognition, 1990",
    scores=_scores,
    settings={},
    additive=True,
)
