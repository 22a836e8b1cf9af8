"""mIoU of logistic regression on the features on images that it was not fitted on."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score
from seg_transfer.metrics._confusion import class_pixels_of, miou, scores_from_confusions
from seg_transfer.metrics._linear_probe import SETTINGS, sample_and_confusions
from seg_transfer.observations import Observations


def linear_probe_miou(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
    class_pixels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 5_000,
    seed: int = 0,
) -> float:
    """Compute the mIoU of the predictions of `linear_probe`, with pixels weighted as in `probe_miou`.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        image_index: (N,) integers, the image of each observation.
        class_pixels: (C,) integers, as in `probe_miou`.
        max_observations: As in `linear_probe`.
        seed: As in `linear_probe`.

    Returns:
        The mean intersection over union of the classes, in [0, 1].

    Raises:
        ObservationsError: As in `linear_probe`, or ``class_pixels`` is not one count of 1 or more per class.
        ConfigError: As in `linear_probe`.

    Example:
        >>> features, labels = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> linear_probe_miou(features, labels, np.array([0, 1, 0, 1]), class_pixels=np.array([50, 70]))
        1.0
    """
    observations = Observations(features, labels, image_index=image_index, class_pixels=class_pixels)
    return overall_score(_scores(Statistics.ungrouped(observations), max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    sample, confusions = sample_and_confusions(statistics, max_observations, seed)
    return scores_from_confusions(statistics, confusions, partial(miou, class_pixels_of(sample)))


METRIC = Metric(
    name="linear_probe_miou",
    version=2,
    needs=frozenset({"features", "image_index", "class_pixels"}),
    range="[0, 1]",
    cost="as linear_probe, which shares the fit",
    reference="mIoU of the predictions of linear_probe, weighted to all labeled pixels; a baseline",
    scores=_scores,
    settings=SETTINGS,
    additive=True,
)
