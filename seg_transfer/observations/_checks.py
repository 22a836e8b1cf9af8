"""Checks of arrays: each raises ObservationsError in one line that names the array, the position and the rule."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays import arrays_of
from seg_transfer.errors import ObservationsError
from seg_transfer.observations.passes import wrong_distribution

# Fourth powers of larger values, summed over millions of rows, would overflow float64.
LARGEST_FEATURE = 1e70
# Rounding to float16 moves the sum of a row of probabilities by at most 5e-4.
PROBABILITY_TOLERANCE = 1e-3


def check_integers(name: str, values: npt.NDArray[Any]) -> None:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ObservationsError(
            f"{name} has shape {values.shape} and dtype {values.dtype}; it must be a 1-D array of integers (N,)"
        )


def check_length(name: str, values: npt.NDArray[Any], length: int) -> None:
    if values.shape != (length,):
        raise ObservationsError(f"{name} has shape {values.shape}; {length} labels need shape ({length},)")


def check_range(name: str, values: npt.NDArray[Any], end: int | npt.NDArray[Any]) -> None:
    outside = np.flatnonzero((values < 0) | (values >= end))
    if len(outside):
        position = outside[0]
        limit = np.broadcast_to(end, values.shape)[position]
        raise ObservationsError(f"{name}[{position}] is {values[position]}; it must lie in 0 .. {limit - 1}")


def check_two_classes(classes: npt.NDArray[Any], n_observations: int) -> None:
    if len(classes) < 2:
        raise ObservationsError(
            f"labels hold {len(classes)} class(es) in {n_observations} observation(s); "
            "a metric needs at least two classes and two observations: sample more images"
        )


def check_pixel_counts(class_pixels: npt.NDArray[Any], classes: npt.NDArray[Any]) -> None:
    if class_pixels.shape != classes.shape or class_pixels.dtype.kind not in "iu":
        raise ObservationsError(
            f"class_pixels has shape {class_pixels.shape} and dtype {class_pixels.dtype}; labels of {len(classes)} "
            f"classes need integers of shape ({len(classes)},), one per label in ascending order"
        )
    if class_pixels.min() < 1:
        position = int(class_pixels.argmin())
        raise ObservationsError(
            f"class_pixels[{position}] is {class_pixels[position]}, but label {classes[position]} occurs; "
            "count the labeled pixels of every class in all label maps"
        )


def check_matrix(name: str, values: Any, length: int, rows: str = "labels") -> None:
    """Check that values are a matrix of finite real numbers.

    Args:
        name: Name of the array in the error.
        values: The array; its shape must be (length, > 0).
        length: Number of rows.
        rows: Name of the rows in the error.

    Raises:
        ObservationsError: The shape or dtype is wrong, or a value is NaN, infinite or beyond 1e70 in magnitude.

    Example:
        >>> check_matrix("features", np.array([[0.0], [np.nan]]), 2)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        seg_transfer.errors.ObservationsError: features[1, 0] is nan; every value must be finite ...
    """
    if values.ndim != 2 or len(values) != length or values.shape[1] == 0:
        raise ObservationsError(f"{name} has shape {tuple(values.shape)}; {length} {rows} need shape ({length}, > 0)")
    if not _is_real(values):
        raise ObservationsError(f"{name} has dtype {values.dtype}; it must hold real numbers")
    found = arrays_of(values).first_unusable(values, LARGEST_FEATURE)
    if found is not None:
        row, column = found
        raise ObservationsError(
            f"{name}[{row}, {column}] is {values[row, column]}; every value must be finite and below "
            f"{LARGEST_FEATURE:g} in magnitude: leave that image out or fix its source"
        )


def _is_real(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "fiu"
    return bool(values.dtype.is_floating_point)


def check_distributions(source_probs: Any) -> None:
    wrong = wrong_distribution(source_probs, PROBABILITY_TOLERANCE)
    if wrong is not None:
        row, total, least = wrong
        raise ObservationsError(
            f"source_probs[{row}] sums to {total:.6g} with smallest value {least:.6g}; "
            "a row must be non-negative and sum to 1: pass probabilities, not logits"
        )
