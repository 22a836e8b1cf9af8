"""The mIoU of a network from pixel counts of every image, and what other images might have given."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals
from seg_transfer.evaluation._measures import Array

Counts = npt.NDArray[np.integer[Any]]
N_DRAWS = 2000


def miou_of(counts: Counts | Array) -> Array:
    """Compute the mean IoU over the classes that occur in the labels.

    Args:
        counts: Pixels of every class, (..., 3, C): those that label and prediction agree on, those of the label maps,
            and those of the predictions, without ignored pixels.

    Returns:
        Fractions in [0, 1], (...); NaN where no pixel has a label.

    Example:
        >>> float(miou_of(np.array([[3, 2], [4, 2], [3, 3]])).round(4))
        0.7083
    """
    agreed, labeled, predicted = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    union = labeled + predicted - agreed
    iou = np.divide(agreed, union, out=np.zeros_like(agreed), where=union > 0)
    n_classes = (labeled > 0).sum(axis=-1)
    total: Array = np.where(labeled > 0, iou, 0.0).sum(axis=-1)
    mean: Array = np.divide(total, n_classes, out=np.full_like(total, np.nan), where=n_classes > 0)
    return mean


def miou_interval(counts: Counts, seed: int = 0) -> tuple[float, float]:
    """Bootstrap the mIoU over images: what it might have been on other images of the same kind.

    Networks that are trained again differ, too; the interval does not include that.

    Args:
        counts: Counts of every image, (n, 3, C), as in `miou_of`.
        seed: Seed of the draws.

    Returns:
        2.5 and 97.5 percentile of `N_DRAWS` draws; NaN for a single image.

    Example:
        >>> counts = np.array([[[4, 4], [4, 4], [4, 4]], [[0, 4], [4, 4], [0, 8]]])
        >>> miou_interval(counts)
        (0.25, 1.0)
    """
    low, high = percentile_intervals(_draws(counts, seed))
    return float(low), float(high)


def difference_interval(counts: Counts, other: Counts, seed: int = 0) -> tuple[float, float]:
    """Bootstrap the difference in mIoU of two networks over the same images, drawn for both alike.

    Args:
        counts: Counts of the first network, (n, 3, C), as in `miou_of`.
        other: Counts of the second network on the same images, in the same order.
        seed: Seed of the draws.

    Returns:
        2.5 and 97.5 percentile of the first minus the second; NaN for a single image.

    Example:
        >>> counts = np.array([[[4, 4], [4, 4], [4, 4]], [[0, 4], [4, 4], [0, 8]]])
        >>> difference_interval(counts, counts)
        (0.0, 0.0)
    """
    low, high = percentile_intervals(_draws(counts, seed) - _draws(other, seed))
    return float(low), float(high)


def _draws(counts: Counts, seed: int) -> Array:
    """Return the mIoU of every draw of images, (draws,)."""
    weights = bootstrap_draws(len(counts), N_DRAWS, seed)
    return miou_of(np.tensordot(weights, counts.astype(np.float64), axes=1))
