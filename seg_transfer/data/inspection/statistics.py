"""Counts over the pixels of a mask that tell classes from traces of compression and smoothing."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

# A photograph or a lossy mask in colors has up to one value per pixel; more than these say nothing new.
MAX_VALUES = 8192
# Above, a table of counts costs more than hashing the values.
_MAX_TABLE = 65536
# Values that stand for "ignore" are far from all ids, so that every id beside one would look like a blend.
_APART = (255, 65535)

Raw = npt.NDArray[np.integer]


class ValueCount(NamedTuple):
    """Pixels of one value in a mask; a solid one lies in a 2 x 2 block of equal values."""

    pixels: int
    solid: int


def count_values(raw: Raw) -> tuple[dict[int, ValueCount], int]:
    """Count the pixels of every value.

    Args:
        raw: (H, W).

    Returns:
        The counts of the `MAX_VALUES` most frequent values, in the order of values; and the number of values.

    Example:
        >>> count_values(np.array([[4, 4, 9], [4, 4, 4]]))[0]
        {4: ValueCount(pixels=5, solid=4), 9: ValueCount(pixels=1, solid=0)}
    """
    solid = _solid(raw)
    if raw.min() >= 0 and raw.max() < _MAX_TABLE:
        pixels = np.bincount(raw.ravel())
        values = np.flatnonzero(pixels)
        counts = np.stack([pixels, np.bincount(raw[solid], minlength=len(pixels))])[:, values]
    else:
        codes, uniques = pd.factorize(raw.ravel())
        values = np.asarray(uniques)
        n = len(values)
        counts = np.stack([np.bincount(codes, minlength=n), np.bincount(codes[solid.ravel()], minlength=n)])
    kept = np.argsort(-counts[0], kind="stable")[:MAX_VALUES]
    kept = kept[np.argsort(values[kept])]
    rows = zip(values[kept].tolist(), *counts[:, kept].tolist(), strict=True)
    return {value: ValueCount(total, block) for value, total, block in rows}, len(values)


def edges_of(raw: Raw) -> tuple[int, int, int]:
    """Count edges, and sharp and smooth places of a mask, along rows and columns.

    Args:
        raw: (H, W).

    Returns:
        The number of neighbors that differ, of those that differ by 2 or more, and of pixels strictly between both
        neighbors, all without values that stand for "ignore".
        Smoothing puts such pixels on edges; in a drawn mask they are rare.

    Example:
        >>> row = np.array([[0, 0, 2, 4, 4]])  # 2 lies between 0 and 4
        >>> edges_of(row)
        (2, 2, 1)
    """
    numbers = _narrow(raw)
    is_id = (numbers != _APART[0]) & (numbers != _APART[1])
    rows, columns = _edges_along_rows(numbers, is_id), _edges_along_rows(numbers.T, is_id.T)
    n_edges, n_steps, n_blends = (along + across for along, across in zip(rows, columns, strict=True))
    return n_edges, n_steps, n_blends


def _narrow(raw: Raw) -> Raw:
    """Return the numbers in a type whose differences do not overflow, and the faster one of two."""
    if raw.dtype.kind == "u" and raw.dtype.itemsize <= 2:
        return raw
    return raw.astype(np.uint16 if raw.min() >= 0 and raw.max() < _MAX_TABLE else np.int64)


def _edges_along_rows(raw: Raw, is_id: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    left, right = raw[:, :-1], raw[:, 1:]
    are_ids = is_id[:, :-1] & is_id[:, 1:]
    steps = are_ids & (np.maximum(left, right) - np.minimum(left, right) >= 2)
    rises, falls = are_ids & (left < right), are_ids & (left > right)
    between = (rises[:, :-1] & rises[:, 1:]) | (falls[:, :-1] & falls[:, 1:])
    n_edges = np.count_nonzero(rises) + np.count_nonzero(falls)
    return int(n_edges), int(np.count_nonzero(steps)), int(np.count_nonzero(between))


def _solid(raw: Raw) -> npt.NDArray[np.bool_]:
    unequal = raw[:, 1:] != raw[:, :-1]
    block = ~(unequal[1:] | unequal[:-1] | (raw[1:, 1:] != raw[:-1, 1:]))
    solid = np.zeros(raw.shape, np.bool_)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            solid[rows, columns] |= block
    return solid
