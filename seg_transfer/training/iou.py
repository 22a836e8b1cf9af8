"""Intersection over union from integer counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seg_transfer.data.fields import IGNORE


@dataclass(frozen=True, slots=True)
class SegmentationQuality:
    """How well predictions match the labels of an eval split.

    Attributes:
        miou: Mean IoU over the classes that occur in the labels, a fraction in [0, 1], unrounded.
        class_iou: IoU per class of the dataset; None for a class that does not occur in the labels.
        absent: Indices of the classes that do not occur; they are left out of the mean.
        n_images: Number of images evaluated.
    """

    miou: float
    class_iou: tuple[float | None, ...]
    absent: tuple[int, ...]
    n_images: int


def confusion_counts(
    labels: npt.NDArray[np.integer], predictions: npt.NDArray[np.integer], n_classes: int, ignored: int = IGNORE
) -> npt.NDArray[np.int64]:
    """Count pixels by label and prediction.

    Args:
        labels: Class indices in any shape.
        predictions: Class indices in the same shape.
        n_classes: Number of classes of the dataset.
        ignored: Pixels with this label are left out.

    Returns:
        int64 (n_classes, n_classes), labels in rows, predictions in columns.

    Example:
        >>> confusion_counts(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 1]), 2)
        array([[1, 0],
               [1, 1]])
    """
    known = labels != ignored
    # Convert first, because a product of small integers would wrap.
    pairs = labels[known].astype(np.int64) * n_classes + predictions[known]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def segmentation_quality(counts: npt.NDArray[np.int64], n_images: int) -> SegmentationQuality:
    """Compute the IoU per class and their mean from confusion counts.

    Args:
        counts: int64 (C, C) of all images, labels in rows, predictions in columns.
        n_images: Number of images that were counted.

    Example:
        >>> quality = segmentation_quality(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), n_images=1)
        >>> quality.class_iou, quality.absent
        ((0.75, 0.6666666666666666, None), (2,))
        >>> quality.miou
        0.7083333333333333
    """
    return quality_of(np.stack([np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)]), n_images)


def quality_of(counts: npt.NDArray[np.int64], n_images: int) -> SegmentationQuality:
    """Compute the same from the pixels of every class, (3, C): agreed on, labeled, and predicted."""
    intersection, labeled, predicted = counts
    union = labeled + predicted - intersection
    class_iou = tuple(float(i / u) if n else None for i, u, n in zip(intersection, union, labeled, strict=True))
    present = [value for value in class_iou if value is not None]
    absent = tuple(index for index, value in enumerate(class_iou) if value is None)
    return SegmentationQuality(float(np.mean(present)), class_iou, absent, n_images)
