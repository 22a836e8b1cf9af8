"""OTCE: how much the labels of the source's own observations say about those of the target's observations near them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score
from seg_transfer.metrics._nce import negative_conditional_entropy
from seg_transfer.metrics._transport import coupling, subsampled_pair
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
    """Optimal transport based conditional entropy, the task term -H(Y_target | Y_source).

    Tan, Li and Huang, "OTCE: A Transferability Metric for Cross-Domain Cross-Task Representations", CVPR 2021, in the
    form for pixels of "Transferability Estimation for Semantic Segmentation Task", arXiv 2109.15242. Pairs of labels
    are weighted by the coupling of the source's own observations with the target's that has the least mean squared
    Euclidean distance.

    The full score adds the mean distance, the domain term, with coefficients that are fitted to known results of other
    pairs; for pixels the authors leave it out. They regularize the coupling (Sinkhorn) and average over 10 samples of
    10 000 pixels; here it is exact and of one sample. Few observations of many pairs of classes make the entropy too
    small. Observations with the same features are one point, so that their labels are mixed rather than coupled in the
    order in which they come.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        source_features: (N_s, D), of the source's own images seen through the source.
        source_labels: (N_s,) integers, the source's classes.
        max_observations: At most this many of either side are used, equally many from every image.
        seed: Of the choice of observations.

    Returns:
        A number in [-log C, 0], in nats; higher is better. A shift or a positive factor of either side changes nothing.

    Raises:
        ObservationsError: Features hold NaN or infinite values, there are fewer than two classes or observations, or
            the sides differ in width.
        ConfigError: A setting is outside its range, or POT is not installed (the extra ``ot``).

    Example:
        Next to each other, the source's labels say all of the first labels and nothing of the second.

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
    """The task term -H(Y_target | Y_source), and the domain term: the mean squared distance under the coupling."""
    points, counts = _points(target)
    source_points, source_counts = _points(source)
    mean, source_mean = _mean(points, counts), _mean(source_points, source_counts)
    # A shift of either side changes the cost of all couplings equally; without it the distances keep their precision.
    cost = cdist(points - mean, source_points - source_mean, "sqeuclidean")
    mass, source_mass = counts.sum(axis=1), source_counts.sum(axis=1)
    # Every pair of n and m observations has mass 1 / (n m): in that unit all masses are integers.
    plan = coupling("otce", cost, mass * source_mass.sum(), source_mass * mass.sum())
    joint = (counts / mass[:, None]).T @ plan @ (source_counts / source_mass[:, None])
    domain = float(np.vdot(plan, cost) / plan.sum() + ((mean - source_mean) ** 2).sum())
    return negative_conditional_entropy(joint), domain


def _points(observations: Observations) -> tuple[FloatArray, FloatArray]:
    """(U, D) the different rows of the features, sorted; (U, C) how many observations of each class are there."""
    assert observations.features is not None
    points, place = np.unique(observations.features.astype(np.float64), axis=0, return_inverse=True)
    counts = np.zeros((len(points), len(observations.classes)))
    np.add.at(counts, (place.ravel(), observations.codes), 1.0)
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
