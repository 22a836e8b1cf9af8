"""SFDA: how well a discriminant separates the classes after a simulated fine-tuning."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from seg_transfer.arrays import arrays_of
from seg_transfer.metrics._base import Metric, Scores, Statistics, features_of, overall_score
from seg_transfer.metrics._separation import EPSILON, between_class_rows
from seg_transfer.observations import FloatArray, IntArray, Observations
from seg_transfer.observations.passes import Blocks, keyed_blocks, softmax

# As in the authors' release: shrinkage = exp(-5 * largest variance within the classes), at least 1e-10.
STEEPNESS = 5.0
LEAST_SHRINKAGE = 1e-10
# Keeps the matrix invertible where nothing varies at all.
TINY = 1e-100

# Directions (D, C) and intercepts, (C,) or one row (C, C) per class: products with rows plus intercepts are log odds.
Discriminant = tuple[FloatArray, FloatArray]


def sfda(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the score of self-challenging Fisher discriminant analysis.

    Shao et al., "Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher Space", ECCV
    2022. A regularized discriminant gives every observation a probability of its true class. Each observation is then
    moved toward the mean of the other classes, the farther the less certain it was, and a second discriminant is fitted
    to the result. The score is the mean probability that the second discriminant gives to the true class.

    The covariance within the classes is shrunk toward a multiple of the identity by exp(-5 s), where s is its largest
    eigenvalue. It is exact here, whereas the authors' release approximates it by power iteration. The paper averages
    the log of the probability, the release the probability itself. This function averages the probability, because it
    is bounded and the published numbers come from the release. Where the classes are well separated, all scores are
    near 1 and their order says little.

    Args:
        features: (N, D).
        labels: (N,) integers.

    Returns:
        A number in [0, 1]; higher is better. The scale of the features matters.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.

    Example:
        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> round(sfda(features, labels), 4)
        0.8174
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(features, labels))))


def _scores(statistics: Statistics) -> Scores:
    total, codes = statistics.total, statistics.observations.codes
    shares, means = total.counts / total.n, total.class_offsets
    rows = between_class_rows(total)
    within = total.covariance - rows.T @ rows
    shrinkage, rounding = _shrinkage(within), 4 * EPSILON * float(np.trace(total.covariance))
    first = _discriminant(means, within, shares, shrinkage, rounding)
    # The weighted class means sum to zero, so that the mean of the other classes lies on the other side of the center.
    others = -(shares / (1 - shares))[:, None] * means
    features, origins = features_of(statistics), total.mean + others
    certainty, sums, second = _move(features, codes, origins, _seen_from(others, first))
    moved = sums / total.counts[:, None]
    within = (second - sums.T @ moved) / total.n
    last = _discriminant(others + moved, within, shares, shrinkage, rounding)
    return [_mean_true_class(features, codes, origins, _seen_from(others, last), certainty)]


def _seen_from(origins: FloatArray, discriminant: Discriminant) -> Discriminant:
    """Return the discriminant of deviations from an origin of each class, (C, D): intercepts are then (C, C)."""
    directions, intercepts = discriminant
    return directions, origins @ directions + intercepts


def _deviations(features: Any, codes: IntArray, origins: FloatArray) -> Blocks:
    """Yield the observations, less the origin (C, D) of their class, in the order of the classes."""
    arrays, native = arrays_of(features), arrays_of(features).of_host(origins)
    for x, keys in keyed_blocks(features, codes):
        arrays.subtract_by_key(x, native, keys)
        yield x, keys


def _move(
    features: Any, codes: IntArray, origins: FloatArray, discriminant: Discriminant
) -> tuple[list[Any], FloatArray, FloatArray]:
    """Move every observation toward the mean of the other classes, its origin, by what it lacks in certainty.

    From the origin o, an observation x of certainty p moves to p (x - o).

    Returns:
        The certainty of the observations in blocks (n, 1), in the order of their classes; and of the moved deviations
        the sum (C, D) of each class, and the second moment (D, D).
    """
    arrays, (n_classes, width) = arrays_of(features), origins.shape
    directions, intercepts = map(arrays.of_host, discriminant)
    certainty, sums, second = [], arrays.zeros(n_classes, width), arrays.zeros(width, width)
    for x, keys in _deviations(features, codes, origins):
        probabilities = softmax(x @ directions + arrays.take(intercepts, keys))
        # The discriminant's probabilities pass through a second softmax, as in the release.
        own = arrays.pick(softmax(probabilities), keys)[:, None]
        certainty.append(own)
        x *= own
        arrays.add_by_key(sums, x, keys)
        arrays.add_products(second, x)
    return certainty, arrays.to_host(sums), arrays.symmetric(second)


def _mean_true_class(
    features: Any, codes: IntArray, origins: FloatArray, discriminant: Discriminant, certainty: list[Any]
) -> float:
    """Return the mean probability of the true class after the move."""
    arrays, total = arrays_of(features), 0.0
    directions, intercepts = map(arrays.of_host, discriminant)
    for (x, keys), own in zip(_deviations(features, codes, origins), certainty, strict=True):
        # Moving the products is the same as moving the observations.
        odds = x @ directions
        odds *= own
        odds += arrays.take(intercepts, keys)
        total += float(arrays.pick(softmax(odds), keys).sum())
    return total / len(codes)


def _shrinkage(within: FloatArray) -> float:
    last = len(within) - 1
    largest = scipy.linalg.eigvalsh(within, subset_by_index=[last, last])[0]
    return max(float(np.exp(-STEEPNESS * largest)), LEAST_SHRINKAGE)


def _discriminant(
    means: FloatArray, within: FloatArray, shares: FloatArray, shrinkage: float, rounding: float
) -> Discriminant:
    """Fit a linear discriminant with the classes' shares as priors; ``rounding`` is the size of a variance of zero."""
    shrunk = (1 - shrinkage) * within
    shrunk[np.diag_indices_from(shrunk)] += shrinkage * np.trace(within) / len(within) + rounding + TINY
    directions = scipy.linalg.solve(shrunk, means.T, assume_a="pos")
    return directions, np.log(shares) - np.einsum("cd,dc->c", means, directions) / 2


METRIC = Metric(
    name="sfda",
    version=1,
    needs=frozenset({"features"}),
    range="[0, 1]",
    cost="N D^2 + N C D",
    reference="Shao et al., Not All Models Are Equal, ECCV 2022",
    scores=_scores,
    settings={},
)
