"""EMD: how far the source's class means must be moved to become those of the target."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance_nd

from seg_transfer.metrics._base import (
    Metric,
    Scores,
    Statistics,
    check_setting,
    overall_score,
    scores_from_moments,
    source_images_of,
)
from seg_transfer.observations import Moments, MomentStatistics, Observations


def emd(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    source_features: npt.NDArray[Any],
    source_labels: npt.NDArray[np.integer[Any]],
    *,
    gamma: float = 0.01,
) -> float:
    """Domain similarity by the earth mover's distance, exp(-gamma EMD).

    Cui et al., "Large Scale Fine-Grained Categorization and Domain-Specific Transfer Learning", CVPR 2018. The distance
    is between the class means of the source's own images and those of the target, each weighted by its share of the
    observations, at the cost of their Euclidean distance. The paper weights classes by their images; here observations
    count, and a class-balanced pixel sample draws equally many from each class of an image.

    Args:
        features: (N, D).
        labels: (N,) integers.
        source_features: (N_s, D), of the source's own images seen through the source.
        source_labels: (N_s,) integers, the source's classes.
        gamma: > 0, in one over the units of the features.

    Returns:
        A number in (0, 1]; higher is better.

    Raises:
        ObservationsError: Features hold NaN or infinite values, there are fewer than two classes or observations, or
            the sides differ in width.
        ConfigError: A setting is outside its range.

    Example:
        Both class means differ by 1: the score is exp(-0.01).

        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> round(emd(features, labels, features + 1, labels), 4)
        0.99
    """
    observations = Observations(features, labels, source_images=Observations(source_features, source_labels))
    return overall_score(_scores(Statistics.ungrouped(observations), gamma=gamma))


def _scores(statistics: Statistics, *, gamma: float) -> Scores:
    check_setting(gamma > 0, "gamma", gamma, "above 0")
    own = MomentStatistics.of(source_images_of(statistics.observations)).total()
    return scores_from_moments(statistics, lambda moments: float(np.exp(-gamma * earth_movers_distance(moments, own))))


def earth_movers_distance(target: Moments, source: Moments) -> float:
    """The least mean distance over which the source's class means are moved to the target's."""
    # Relative to a common point: a shift of both sides changes no distance, but a large one would cost precision.
    means, own = target.class_offsets, source.class_offsets + (source.mean - target.mean)
    return float(wasserstein_distance_nd(means, own, target.counts / target.n, source.counts / source.n))


METRIC = Metric(
    name="emd",
    version=1,
    needs=frozenset({"features", "source_images"}),
    range="(0, 1]",
    cost="N D^2 + C^2 C_s",
    reference="Cui et al., Large Scale Fine-Grained Categorization, CVPR 2018",
    scores=_scores,
    settings={"gamma": 0.01},
    additive=True,
)
