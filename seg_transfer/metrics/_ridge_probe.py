"""Ridge probe: how well a linear classifier of the features does on images that it was not fitted on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from seg_transfer.metrics._base import Metric, Scores, Statistics, features_of, overall_score
from seg_transfer.metrics._confusion import (
    balanced_accuracy,
    grouped_by_images,
    scores_from_confusions,
)
from seg_transfer.metrics._memo import remembered
from seg_transfer.observations import FloatArray, IntArray, Moments, Observations
from seg_transfer.observations.passes import counts_of_predictions

# Penalties in units of the mean variance of the channels, from hardly any to one that leaves little but class means.
LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# The variance of channels far from the point that sums are taken about is known to this fraction of its square.
ROUNDING = 1e-10


def ridge_probe(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
) -> float:
    """Compute the balanced accuracy of a linear ridge classifier on images that it was not fitted on.

    The images are divided into 10 groups (as many as there are images, if fewer). The pixels of each group are
    predicted by a regression fitted on all other groups, on one-hot targets divided by the share of their class, so
    that every class counts the same: the weights are (S + lambda tr(S) / D I)^-1 M^T, where S is the covariance of the
    features and M holds the class means minus the mean. The prediction is the class of the highest score.

    Lambda is one of 10^-4, 10^-3, ..., 10. Each group has its own, chosen without it: the next and the previous group
    are predicted by regressions fitted without that group and this one, and the lambda of the least sum of squared
    errors on the targets is taken, the larger of equal ones. With two groups nothing is left to choose by, and lambda
    is 0.1. The penalty is the same for every channel: where few have variances 10^6 times as large as the others, it
    hides the others.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        image_index: (N,) integers, the image of each observation.

    Returns:
        The mean recall of the classes, in [0, 1]; chance is 1 / C. A class that only one group has is never predicted.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes, observations
            or images.

    Example:
        >>> features, labels = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> ridge_probe(features, labels, image_index=np.array([0, 1, 0, 1]))
        1.0
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels, image_index=image_index))))


def _scores(statistics: Statistics) -> Scores:
    return scores_from_confusions(statistics, confusions_by_group(statistics), balanced_accuracy)


@dataclass(frozen=True, eq=False)
class _Equations:
    """The normal equations of a regression fitted on some groups, about the point that all moments are taken about.

    Attributes:
        center: (D,), the mean minus that point.
        covariance: (D, D), divided by N.
        offsets: (D, C), class means minus the mean; zero for a class that is absent.
        shares: (C,), the share of each class.
        unit: The penalty of lambda = 1.
    """

    center: FloatArray
    covariance: FloatArray
    offsets: FloatArray
    shares: FloatArray
    unit: float

    @classmethod
    def of(cls, counts: IntArray, sums: FloatArray, second: FloatArray) -> "_Equations":
        n = int(counts.sum())
        center = sums.sum(axis=0) / n
        covariance = second / n
        square = float(np.trace(covariance))
        covariance -= np.outer(center, center)
        offsets = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None] - center, 0.0)
        # Where nothing varies the weights are zero, whatever the penalty.
        unit = max(float(np.trace(covariance)) / len(center), ROUNDING * square) or 1.0
        return cls(center, covariance, np.asfortranarray(offsets.T), counts / n, unit)

    def weights(self, penalty: float) -> FloatArray:
        """Return (D, C) weights, zero for a class that is absent."""
        matrix = self.covariance.T.copy(order="F")
        np.einsum("ii->i", matrix)[...] += penalty * self.unit
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        weights: FloatArray = cho_solve(factor, self.offsets, check_finite=False)
        return weights

    def squared_errors(self, weights: Sequence[FloatArray], part: Moments) -> FloatArray:
        """Compute the squared errors on another group, summed over its observations and the classes fitted.

        With u = x - mean and C classes fitted, observation i of class y misses its target for class c by
        ([y = c] / share_c - 1 - u W_c) / C.

        Args:
            weights: L matrices (D, C).
            part: Moments of the group, which may have other classes too.

        Returns:
            (L,).
        """
        fitted, stacked, n = self.shares > 0, np.hstack(weights), part.n
        inverse = np.where(fitted, 1 / np.where(fitted, self.shares, 1.0), 0.0)
        own = part.sums - part.counts[:, None] * self.center
        targets = inverse[:, None] * own - own.sum(axis=0)
        along, total = self.center @ stacked, part.sums.sum(axis=0) @ stacked
        squares = np.einsum("ij,ij->j", stacked, part.second @ stacked) - 2 * total * along + n * along**2
        crossed = np.einsum("lij,ji->l", np.stack(weights), targets)
        misses = part.counts * (inverse - 1) ** 2 + (n - part.counts)
        errors: FloatArray = misses[fitted].sum() - 2 * crossed + squares.reshape(len(weights), -1).sum(axis=1)
        return errors / np.count_nonzero(fitted) ** 2


def confusions_by_group(statistics: Statistics) -> IntArray:
    """Return observations (m, C, C) of every group of images by true and by predicted class."""
    return remembered(statistics, "ridge probe", lambda: _predict(grouped_by_images(statistics)))


def _predict(statistics: Statistics) -> IntArray:
    """Predict every group by the regression that was fitted without it, in one pass over the features."""
    groups, observations = statistics.moments.groups, statistics.observations
    weights, intercepts = zip(*map(_classifier, _fits(groups), _penalties(groups)), strict=True)
    keys = statistics.groups * len(observations.classes) + observations.codes
    return counts_of_predictions(features_of(statistics), keys, groups[0].shift, weights, intercepts)


def _classifier(equations: _Equations, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Return weights (D, C) and intercepts (C,) for features minus the point of the moments."""
    weights = equations.weights(penalty)
    return weights, np.where(equations.shares > 0, -(equations.center @ weights), -np.inf)


def _fits(groups: Sequence[Moments]) -> Iterator[_Equations]:
    """Yield the equations of the fit without each group."""
    return (_without(groups, {group}) for group in range(len(groups)))


def _penalties(groups: Sequence[Moments]) -> list[float]:
    """Choose lambda for every group from other groups alone."""
    if len(groups) == 2:
        return [LAMBDAS[len(LAMBDAS) // 2]] * 2
    return [LAMBDAS[np.flatnonzero(own == own.min())[-1]] for own in _errors(groups)]


def _errors(groups: Sequence[Moments]) -> FloatArray:
    """Return (m, L) squared errors of every lambda without each group: on the groups next to it, around the end.

    The fit without two neighbors serves both. More than two groups to judge by would cost more than all else.
    """
    n_groups = len(groups)
    errors = np.zeros((n_groups, len(LAMBDAS)))
    for first in range(n_groups):
        second = (first + 1) % n_groups
        equations = _without(groups, {first, second})
        weights = [equations.weights(penalty) for penalty in LAMBDAS]
        errors[first] += equations.squared_errors(weights, groups[second])
        errors[second] += equations.squared_errors(weights, groups[first])
    return errors


def _without(groups: Sequence[Moments], left_out: set[int]) -> _Equations:
    kept = [part for group, part in enumerate(groups) if group not in left_out]
    second = kept[0].second.copy()
    for part in kept[1:]:
        second += part.second
    counts, sums = np.sum([part.counts for part in kept], axis=0), np.sum([part.sums for part in kept], axis=0)
    return _Equations.of(counts, sums, second)


METRIC = Metric(
    name="ridge_probe",
    version=1,
    needs=frozenset({"features", "image_index"}),
    range="[0, 1]",
    cost="N D^2 + N C D + 23 D^3 + 360 C D^2",
    reference="balanced accuracy of a linear ridge classifier on held-out images; a baseline",
    scores=_scores,
    settings={},
    additive=True,
)
