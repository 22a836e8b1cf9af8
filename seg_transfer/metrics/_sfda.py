"""SFDA: how well a discriminant separates the classes after a simulated fine-tuning."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.linalg.blas import dsyrk

from seg_transfer.metrics._base import Metric, Scores, Statistics, features_of, overall_score
from seg_transfer.metrics._separation import EPSILON, between_class_rows
from seg_transfer.observations import FloatArray, IntArray, Observations, add_by_key, keyed_blocks

# As in the authors' release: shrinkage = exp(-5 * largest variance within the classes), at least 1e-10.
STEEPNESS = 5.0
LEAST_SHRINKAGE = 1e-10
# Keeps the matrix invertible where nothing varies at all.
TINY = 1e-100

# Directions (D, C) and intercepts (C,): rows times directions plus intercepts are log odds.
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
    features = features_of(statistics)
    certainty, sums, second = _move(features, codes, total.mean, first, others)
    means = sums / total.counts[:, None]
    within = (second - sums.T @ means) / total.n
    directions, intercepts = _discriminant(means, within, shares, shrinkage, rounding)
    return [_mean_true_class(features, codes, total.mean, (directions, intercepts), others @ directions, certainty)]


def _move(
    features: npt.NDArray[Any], codes: IntArray, center: FloatArray, discriminant: Discriminant, others: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Move every observation toward the mean of the other classes, (C, D) ``others``, by what it lacks in certainty.

    Returns:
        The certainty (N,) of the observations in the order of their classes; the sum (C, D) of those moved of each
        class; and their second moment (D, D), of which the upper triangle is copied to the lower one.
    """
    directions, intercepts = discriminant
    certainty, done = np.empty(len(codes)), 0
    sums, second = np.zeros(others.shape), np.zeros((len(center), len(center)), order="F")
    for x, keys in keyed_blocks(features, codes):
        x -= center
        probabilities = _softmax(x @ directions + intercepts)
        # The discriminant's probabilities pass through a second softmax, as in the release.
        own = certainty[done : done + len(keys)] = _true_class(probabilities, keys)
        done += len(keys)
        x *= own[:, None]
        x += (1 - own)[:, None] * others[keys]
        add_by_key(sums, x, keys)
        second = dsyrk(1.0, x.T, beta=1.0, c=second, overwrite_c=True)
    return certainty, sums, np.triu(second) + np.triu(second, 1).T


def _mean_true_class(
    features: npt.NDArray[Any],
    codes: IntArray,
    center: FloatArray,
    discriminant: Discriminant,
    others: FloatArray,
    certainty: FloatArray,
) -> float:
    """Return the mean probability of the true class after the move; (C, C) ``others`` are seen along the directions."""
    directions, intercepts = discriminant
    total, done = 0.0, 0
    for x, keys in keyed_blocks(features, codes):
        own = certainty[done : done + len(keys), None]
        done += len(keys)
        x -= center
        # Moving the products is the same as moving the observations.
        odds = x @ directions
        odds *= own
        odds += (1 - own) * others[keys] + intercepts
        total += float(_true_class(odds, keys).sum())
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


def _softmax(odds: FloatArray) -> FloatArray:
    """Turn log odds (n, C) into probabilities, in place."""
    odds -= odds.max(axis=1, keepdims=True)
    np.exp(odds, out=odds)
    odds /= odds.sum(axis=1, keepdims=True)
    return odds


def _true_class(odds: FloatArray, codes: IntArray) -> FloatArray:
    """Return the probability (n,) of every observation's true class; the log odds (n, C) are overwritten."""
    index = np.arange(len(codes))
    odds -= odds[index, codes][:, None]
    with np.errstate(over="ignore"):
        np.exp(odds, out=odds)
    chosen: FloatArray = 1 / odds.sum(axis=1)
    return chosen


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
