"""EMD: how far the source's class means must be moved to become those of the target."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from seg_transfer.metrics._base import (
    Metric,
    Scores,
    Statistics,
    check_setting,
    overall_score,
    scores_from_moments,
)
from seg_transfer.metrics._source_images import source_images_of
from seg_transfer.metrics._transport import least_cost
from seg_transfer.observations import Moments, MomentStatistics, Observations


def emd(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    source_features: npt.NDArray[Any],
    source_labels: npt.NDArray[np.integer[Any]],
    *,
    gamma: float = 0.01,
) -> float:
    """Compute the domain similarity by the earth mover's distance, exp(-gamma EMD).

    Cui et al., "Large Scale Fine-Grained Categorization and Domain-Specific Transfer Learning", CVPR 2018. The distance
    is between the class means of the source's own images and those of the target, each weighted by its share of the
    observations; moving mass costs the Euclidean distance. The paper weights classes by their number of images. Here
    observations count, and a class-balanced pixel sample draws equally many from each class of an image.

    Args:
        features: (N, D).
        labels: (N,) integers.
        source_features: (N_s, D), features of the source's own images through the source.
        source_labels: (N_s,) integers, the source's classes.
        gamma: Scale, > 0, in 1 / units of the features.

    Returns:
        A number in (0, 1]; higher is better.

    Raises:
        ObservationsError: Features hold NaN or infinite values, there are fewer than two classes or observations, or
            the sides differ in width.
        ConfigError: A setting is outside its range.

    Example:
        Both class means differ by 1, and the score is exp(-0.01).

        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> round(emd(features, labels, features + 1, labels), 4)
        0.99
    """
    observations = Observations(features, labels, source_images=Observations(source_features, source_labels))
    return overall_score(_scores(Statistics.ungrouped(observations), gamma=gamma))


def _scores(statistics: Statistics, *, gamma: float) -> Scores:
    check_setting(gamma > 0, "gamma", gamma, "above 0")
    source = MomentStatistics.of(source_images_of(statistics.observations)).total()
    return scores_from_moments(
        statistics, lambda moments: float(np.exp(-gamma * earth_movers_distance(moments, source)))
    )


def earth_movers_distance(target: Moments, source: Moments) -> float:
    """Compute the least mean distance of moving the source's class means onto the target's."""
    # Relative to a common point: a shift of both sides changes no distance, but a large one would cost precision.
    means, source_means = target.class_offsets, source.class_offsets + (source.mean - target.mean)
    # The solver tolerates absolute errors: percents are far above them, and few enough for it to be fast.
    masses = [100 * side.counts / side.n for side in (target, source)]
    return least_cost("emd", cdist(means, source_means), *masses) / 100


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
