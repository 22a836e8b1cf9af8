"""SFDA: how well a discriminant separates the classes after a simulated fine-tuning."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.special import softmax

from seg_transfer.metrics._base import Metric, Scores, Statistics, features_of, overall_score
from seg_transfer.metrics._separation import EPSILON, between_class_rows
from seg_transfer.observations import FloatArray, IntArray, Observations, add_by_key, keyed_blocks

# As in the authors' release: shrinkage = exp(-5 * largest variance within the classes), at least 1e-10.
STEEPNESS = 5.0
LEAST_SHRINKAGE = 1e-10
# Keeps the matrix regular where nothing varies at all.
TINY = 1e-100

Blocks = Iterator[tuple[FloatArray, IntArray]]
# From rows (n, D) to probabilities (n, C).
Classifier = Callable[[FloatArray], FloatArray]


def sfda(features: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Self-challenging Fisher discriminant analysis.

    Shao et al., "Not All Models Are Equal: Predicting Model Transferability in a Self-challenging Fisher Space", ECCV
    2022. A regularized discriminant gives every observation the probability of its own class. Each observation is then
    moved towards the mean of the other classes, the farther the less certain it was, and a second discriminant is
    fitted to the result. The score is the mean probability that this one gives to the right class.

    The covariance within the classes is shrunk towards a multiple of the identity by exp(-5 s), s its largest
    eigenvalue: exact here, where the authors' release approximates it by a power iteration. The paper averages the log
    of the probability, the release the probability itself. Here it is the probability: it is bounded, and the published
    numbers come from the release. Where the classes are well separated all scores are near 1, and their order says
    little.

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
    # The weighted class means sum to zero: the mean of the other classes is on the other side of the center.
    others = -(shares / (1 - shares))[:, None] * means

    def mixed() -> Blocks:
        for x, keys in keyed_blocks(features_of(statistics), codes):
            x -= total.mean
            certainty = _own(softmax(first(x), axis=1), keys)[:, None]
            x *= certainty
            x += (1 - certainty) * others[keys]
            yield x, keys

    means, within = _means_and_within(mixed(), total.counts, means.shape[1])
    second = _discriminant(means, within, shares, shrinkage, rounding)
    return [float(sum(_own(second(x), keys).sum() for x, keys in mixed()) / total.n)]


def _shrinkage(within: FloatArray) -> float:
    last = len(within) - 1
    largest = scipy.linalg.eigvalsh(within, subset_by_index=[last, last])[0]
    return max(float(np.exp(-STEEPNESS * largest)), LEAST_SHRINKAGE)


def _discriminant(
    means: FloatArray, within: FloatArray, shares: FloatArray, shrinkage: float, rounding: float
) -> Classifier:
    """Linear discriminant analysis with the classes' shares as priors. ``rounding``: what a variance of zero may be."""
    shrunk = (1 - shrinkage) * within
    shrunk[np.diag_indices_from(shrunk)] += shrinkage * np.trace(within) / len(within) + rounding + TINY
    directions = scipy.linalg.solve(shrunk, means.T, assume_a="pos")
    intercepts = np.log(shares) - np.einsum("cd,dc->c", means, directions) / 2
    return lambda x: softmax(x @ directions + intercepts, axis=1)


def _own(probabilities: FloatArray, keys: IntArray) -> FloatArray:
    """(n,) the probability of every observation's own class."""
    own: FloatArray = probabilities[np.arange(len(keys)), keys]
    return own


def _means_and_within(blocks: Blocks, counts: IntArray, width: int) -> tuple[FloatArray, FloatArray]:
    """(C, D) class means and (D, D) covariance within the classes."""
    sums, second = np.zeros((len(counts), width)), np.zeros((width, width))
    for x, keys in blocks:
        add_by_key(sums, x, keys)
        second += x.T @ x
    means = sums / counts[:, None]
    return means, (second - sums.T @ means) / counts.sum()


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
