"""Scores of classifiers that predict images they were not fitted on, from one confusion matrix per group of images."""

from collections.abc import Callable
from functools import partial

import numpy as np

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics._base import Scores, Statistics
from seg_transfer.metrics._memo import remembered
from seg_transfer.observations import IntArray, Observations, image_groups


def grouped_by_images(statistics: Statistics) -> Statistics:
    """Return statistics by groups of images: a probe needs the groups whether or not standard errors are requested.

    Raises:
        ObservationsError: There are fewer than two images.
    """
    if statistics.n_groups > 1:
        return statistics
    return remembered(statistics, "grouped by images", partial(_grouped, statistics.observations))


def _grouped(observations: Observations) -> Statistics:
    assert observations.image_index is not None
    groups = image_groups(observations.image_index)
    if groups.max() == 0:
        raise ObservationsError(
            "image_index holds one image; images are predicted from other images: sample at least two images"
        )
    return Statistics(observations, groups)


def groups_of_sample(sample: Observations, statistics: Statistics) -> IntArray:
    """Return the groups (n,) that the images of a subsample have among all images."""
    assert sample.image_index is not None
    assert statistics.observations.image_index is not None
    images, first = np.unique(statistics.observations.image_index, return_index=True)
    groups: IntArray = statistics.groups[first][np.searchsorted(images, sample.image_index)]
    return groups


def confusions_of(codes: IntArray, predicted: IntArray, groups: IntArray, n_groups: int) -> IntArray:
    """Count the observations (m, C, C) of every group by true and by predicted class.

    Args:
        codes: (n,) true classes, of which the last occurs, so that there are C = max + 1.
        predicted: (n,) predicted classes.
        groups: (n,) groups, 0 .. m - 1.
        n_groups: m.
    """
    n_classes = int(codes.max()) + 1
    cells = (groups * n_classes + codes) * n_classes + predicted
    counts: IntArray = np.bincount(cells, minlength=n_groups * n_classes**2)
    return counts.reshape(n_groups, n_classes, n_classes)


def scores_from_confusions(statistics: Statistics, confusions: IntArray, score: Callable[[IntArray], float]) -> Scores:
    """Score the predictions of all groups, then those of all groups but each in turn.

    The predictions are kept when a group is left out: no classifier is fitted again.

    Args:
        statistics: Statistics of the observations; replicates are computed where these have several groups.
        confusions: (m, C, C), observations of every group of images by true and by predicted class.
        score: Function from a confusion matrix (C, C), whose rows may be empty, to the score.

    Returns:
        The score of all observations, then the score without each group; None where fewer than two classes are left.
    """
    total: IntArray = confusions.sum(axis=0)
    without = [total - confusions[group] for group in statistics.left_out]
    return [score(total), *(score(part) if np.count_nonzero(part.any(axis=1)) > 1 else None for part in without)]


def balanced_accuracy(confusion: IntArray) -> float:
    """Return the mean recall of the classes that occur, in [0, 1]."""
    counts, hits = confusion.sum(axis=1), np.diag(confusion)
    present = counts > 0
    return float((hits[present] / counts[present]).mean())


def miou(class_pixels: IntArray, confusion: IntArray) -> float:
    """Return the mean intersection over union of the classes that occur, in [0, 1].

    Args:
        class_pixels: (C,), the number of pixels that the observations of each class stand for together.
        confusion: (C, C), observations by true and by predicted class.
    """
    counts = confusion.sum(axis=1)
    present = counts > 0
    pixels = confusion * (class_pixels / np.maximum(counts, 1))[:, None]
    hits = np.diag(pixels)
    union = pixels.sum(axis=1) + pixels.sum(axis=0) - hits
    return float((hits[present] / union[present]).mean())


def class_pixels_of(observations: Observations) -> IntArray:
    """Return the numbers of labeled pixels, for a metric that declares that it needs them."""
    assert observations.class_pixels is not None
    return observations.class_pixels.astype(np.int64)
