"""The terms of GBC: how much every two classes overlap, and which classes decide between two sources."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._bhattacharyya import Covariance
from seg_transfer.metrics._gbc import class_distances
from seg_transfer.observations import FloatArray, IntArray, Observations


@dataclass(frozen=True, eq=False)
class ClassOverlaps:
    """How much the C classes of one pair overlap.

    Attributes:
        classes: (C,) labels that occur, ascending.
        counts: (C,) number of observations of each class.
        overlaps: (C, C) symmetric, the Bhattacharyya coefficient exp(-D_B) in [0, 1] of every two classes, 1 on the
            diagonal. It underflows to 0 where D_B is above 745.
    """

    classes: npt.NDArray[np.integer[Any]]
    counts: IntArray
    overlaps: FloatArray

    @property
    def gbc(self) -> float:
        """The score of `gbc`: minus the sum of the overlaps of different classes, with each pair counted twice."""
        return -2 * float(self.overlaps[np.triu_indices(len(self.classes), 1)].sum())


@dataclass(frozen=True, eq=False)
class GbcDifference:
    """The difference of two sources' GBC on one target, split by class; positive values favor the first source.

    Attributes:
        classes: (C,) labels.
        of_pairs: (C, C) symmetric, 0 on the diagonal: how much less the two classes overlap in the first source. The
            sum over all entries is GBC(first) - GBC(second).
    """

    classes: npt.NDArray[np.integer[Any]]
    of_pairs: FloatArray

    @property
    def of_classes(self) -> FloatArray:
        """(C,) the part of every class: the row sums, because GBC counts every pair once for each of its classes."""
        parts: FloatArray = self.of_pairs.sum(axis=1)
        return parts

    @property
    def total(self) -> float:
        """GBC(first) - GBC(second)."""
        return float(self.of_classes.sum())


def class_overlaps(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    n_components: int | None = 64,
    covariance: Covariance = "diagonal",
    variance_floor: float = 1e-4,
    ddof: int = 1,
) -> ClassOverlaps:
    """Compute the terms of GBC: exp(-D_B) of every two classes, Pandy et al., CVPR 2022, eq. 1-3.

    Minus the sum of the overlaps of different classes, with every pair counted twice, is `gbc` with the same arguments.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        n_components: As in `gbc`.
        covariance: As in `gbc`.
        variance_floor: As in `gbc`.
        ddof: As in `gbc`.

    Returns:
        The classes, their numbers of observations, and their overlaps in [0, 1].

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([3, 3, 8, 8])
        >>> class_overlaps(features, labels).overlaps.round(4).tolist()
        [[1.0, 0.3679], [0.3679, 1.0]]
    """
    observations = Observations(features, labels)
    distances = class_distances(Statistics.ungrouped(observations), n_components, covariance, variance_floor, ddof)
    n_classes = len(observations.classes)
    overlaps = np.eye(n_classes)
    overlaps[np.triu_indices(n_classes, 1)] = np.exp(-distances)
    symmetric = np.triu(overlaps, 1) + np.triu(overlaps).T
    return ClassOverlaps(observations.classes, np.bincount(observations.codes, minlength=n_classes), symmetric)


def deciding_classes(first: ClassOverlaps, second: ClassOverlaps) -> GbcDifference:
    """Find which classes make the GBC of one source better than that of another on the same target.

    Args:
        first: The overlaps in one source.
        second: The overlaps of the same pixel sample in another source.

    Returns:
        The difference of the two scores, split by pair of classes and by class.

    Raises:
        ObservationsError: The two do not come from the same pixel sample.

    Example:
        >>> near, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([3, 3, 8, 8])
        >>> far = near + np.array([[0.0], [0.0], [4.0], [4.0]])
        >>> difference = deciding_classes(class_overlaps(far, labels), class_overlaps(near, labels))
        >>> difference.of_classes.round(4).tolist(), round(difference.total, 4)
        ([0.3496, 0.3496], 0.6991)
    """
    same = np.array_equal(first.classes, second.classes) and np.array_equal(first.counts, second.counts)
    if not same:
        raise ObservationsError(
            f"overlaps of {len(first.classes)} classes in {first.counts.sum()} observations and of "
            f"{len(second.classes)} in {second.counts.sum()} are of different pixel samples; "
            "compare two sources on one target"
        )
    return GbcDifference(first.classes, second.overlaps - first.overlaps)
