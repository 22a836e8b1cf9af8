"""EMD: how little the source's class means must be moved to become those of the target."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance_nd

from seg_transfer.metrics._base import (
    Metric,
    Scores,
    Statistics,
    require,
    scores_from_moments,
    single,
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
    """Domain similarity by the earth mover's distance, Cui et al., "Large Scale Fine-Grained Categorization and
    Domain-Specific Transfer Learning", CVPR 2018: exp(-gamma EMD) between the class means of the source's own images
    and those of the target, each weighted by its share of the observations, at the cost of their Euclidean distance.

    The paper's classes are weighted by their images; here by the observations, of which a class-balanced pixel sample
    draws as many from each class of an image.

    Args:
        features: (N, D).
        labels: (N,) integers.
        source_features: (N_s, D), of the source's own images seen through the source.
        source_labels: (N_s,) integers, the source's classes.
        gamma: > 0, in one over the units of the features.

    Returns:
        A number in (0, 1]; higher is better.

    Raises:
        ObservationsError: NaN or infinite features, fewer than two classes or observations, sides of different width.
        ConfigError: a setting outside its range.
    """
    observations = Observations(features, labels, source_images=Observations(source_features, source_labels))
    return single(_scores(Statistics.ungrouped(observations), gamma=gamma))


def _scores(statistics: Statistics, *, gamma: float) -> Scores:
    require(gamma > 0, "gamma", gamma, "above 0")
    own = MomentStatistics.of(source_images_of(statistics.observations)).total()
    return scores_from_moments(statistics, lambda moments: float(np.exp(-gamma * earth_movers_distance(moments, own))))


def earth_movers_distance(target: Moments, source: Moments) -> float:
    """The least mean distance over which the source's class means are moved to the target's."""
    # About a common point: a shift of all changes no distance, and would cost them their digits.
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
