"""OTCE: how much the labels of the source's own observations say about the labels of nearby target observations."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score
from seg_transfer.metrics._distances import squared_distances
from seg_transfer.metrics._nce import negative_conditional_entropy
from seg_transfer.metrics._source_images import subsampled_pair
from seg_transfer.metrics._transport import coupling
from seg_transfer.observations import FloatArray, Observations


def otce(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    source_features: npt.NDArray[Any],
    source_labels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 2000,
    seed: int = 0,
) -> float:
    """Compute the optimal transport based conditional entropy, the task term -H(Y_target | Y_source).

    Tan, Li and Huang, "OTCE: A Transferability Metric for Cross-Domain Cross-Task Representations", CVPR 2021, in the
    form for pixels of "Transferability Estimation for Semantic Segmentation Task", arXiv 2109.15242. Pairs of labels
    are weighted by the coupling of the source's own observations with the target's: the one with the least mean squared
    Euclidean distance.

    The full score adds the mean distance, the domain term, with coefficients fitted to known results of other pairs;
    for pixels the authors leave it out. They regularize the coupling (Sinkhorn) and average over 10 samples of 10 000
    pixels; here the coupling is exact and comes from one sample. With few observations for many pairs of classes, the
    entropy is too small. Observations with the same features are one point, so that their labels are mixed rather than
    coupled in an arbitrary order.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        source_features: (N_s, D), features of the source's own images through the source.
        source_labels: (N_s,) integers, the source's classes.
        max_observations: At most this many observations of either side are used, equally many from every image.
        seed: Seed of the choice of observations.

    Returns:
        A number in [-log C, 0], in nats; higher is better. Shifting or positively scaling either side changes nothing.

    Raises:
        ObservationsError: Features hold NaN or infinite values, there are fewer than two classes or observations, or
            the sides differ in width.
        ConfigError: A setting is outside its range, or POT is not installed (the extra ``ot``).

    Example:
        The labels of nearby source observations determine the first labels, and say nothing about the second.

        >>> features, source_labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([7, 7, 9, 9])
        >>> otce(features, np.array([0, 0, 1, 1]), features, source_labels)
        0.0
        >>> bool(np.isclose(otce(features, np.array([0, 1, 0, 1]), features, source_labels), -np.log(2)))
        True
    """
    observations = Observations(features, labels, source_images=Observations(source_features, source_labels))
    statistics = Statistics.ungrouped(observations)
    return overall_score(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    return [_terms(*subsampled_pair(statistics.observations, max_observations, seed))[0]]


def _terms(target: Observations, source: Observations) -> tuple[float, float]:
    """Compute the task term -H(Y_target | Y_source), and the domain term, the mean squared distance of the coupling."""
    points, counts = _points(target)
    source_points, source_counts = _points(source)
    mean, source_mean = _mean(points, counts), _mean(source_points, source_counts)
    # A shift of either side changes the cost of all couplings equally; centered distances keep their precision.
    cost = squared_distances(points - mean, source_points - source_mean)
    mass, source_mass = counts.sum(axis=1), source_counts.sum(axis=1)
    # Every pair of n and m observations has mass 1 / (n m); in that unit all masses are integers.
    plan = coupling("otce", cost, mass * source_mass.sum(), source_mass * mass.sum())
    joint = (counts / mass[:, None]).T @ plan @ (source_counts / source_mass[:, None])
    domain = float(np.vdot(plan, cost) / plan.sum() + ((mean - source_mean) ** 2).sum())
    return negative_conditional_entropy(joint), domain


def _points(observations: Observations) -> tuple[FloatArray, FloatArray]:
    """Return the distinct rows of the features, (U, D), sorted, and the observations of each class there, (U, C)."""
    assert observations.features is not None
    points, index = np.unique(observations.features.astype(np.float64), axis=0, return_inverse=True)
    counts = np.zeros((len(points), len(observations.classes)))
    np.add.at(counts, (index.ravel(), observations.codes), 1.0)
    return points, counts


def _mean(points: FloatArray, counts: FloatArray) -> FloatArray:
    mean: FloatArray = np.average(points, axis=0, weights=counts.sum(axis=1))
    return mean


METRIC = Metric(
    name="otce",
    version=1,
    needs=frozenset({"features", "source_images"}),
    range="[-log C, 0]",
    cost="n^2 D + n^3",
    reference="Tan et al., OTCE, CVPR 2021; for segmentation arXiv 2109.15242",
    scores=_scores,
    settings={"max_observations": 2000, "seed": 0},
    extra="ot",
)
