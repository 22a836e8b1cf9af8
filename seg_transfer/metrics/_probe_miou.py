"""mIoU of a linear classifier of the features on images that it was not fitted on."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score
from seg_transfer.metrics._confusion import class_pixels_of, miou, scores_from_confusions
from seg_transfer.metrics._ridge_probe import confusions_by_group
from seg_transfer.observations import Observations


def probe_miou(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
    class_pixels: npt.NDArray[np.integer[Any]],
) -> float:
    """Compute the mIoU of the predictions of `ridge_probe`: about what a linear head reaches without fine-tuning.

    A pixel sample holds more pixels of rare classes than the images do. Every sampled pixel of a class therefore counts
    as the same number of pixels, such that together they are all labeled pixels of the class.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        image_index: (N,) integers, the image of each observation.
        class_pixels: (C,) integers, the number of labeled pixels of every class that occurs, in ascending order of the
            labels, in all label maps that the observations were drawn from.

    Returns:
        The mean intersection over union of the classes, in [0, 1].

    Raises:
        ObservationsError: As in `ridge_probe`, or ``class_pixels`` is not one count of 1 or more per class.

    Example:
        Every pixel of class 0 is found, and one of the two of class 1 is taken for class 0. The four sampled pixels of
        class 0 stand for 40 pixels, and the two of class 1 for 4: (40 / 42 + 2 / 4) / 2.

        >>> features = np.array([[0.0], [0.0], [10.0], [0.0], [0.0], [1.0]])
        >>> labels, images = np.array([0, 0, 1, 0, 0, 1]), np.array([0, 0, 0, 1, 1, 1])
        >>> round(probe_miou(features, labels, images, class_pixels=np.array([40, 4])), 4)
        0.7262
    """
    observations = Observations(features, labels, image_index=image_index, class_pixels=class_pixels)
    return overall_score(_scores(Statistics.ungrouped(observations)))


def _scores(statistics: Statistics) -> Scores:
    class_pixels = class_pixels_of(statistics.observations)
    return scores_from_confusions(statistics, confusions_by_group(statistics), partial(miou, class_pixels))


METRIC = Metric(
    name="probe_miou",
    version=1,
    needs=frozenset({"features", "image_index", "class_pixels"}),
    range="[0, 1]",
    cost="as ridge_probe, which shares the fit",
    reference="mIoU of the predictions of ridge_probe, weighted to all labeled pixels; a baseline",
    scores=_scores,
    settings={},
    additive=True,
)
