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
Unequal = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]


class ValueCount(NamedTuple):
    """Pixels of one value in a mask; a solid one lies in a 2 x 2 block of equal values."""

    pixels: int
    solid: int


def count_values(raw: Raw) -> tuple[dict[int, ValueCount], int, Unequal]:
    """Count the pixels of every value.

    Args:
        raw: (H, W).

    Returns:
        The counts of the `MAX_VALUES` most frequent values, in the order of values; the number of values; and where
        horizontal, and vertical, neighbors differ.
    """
    unequal = (raw[:, 1:] != raw[:, :-1], raw[1:] != raw[:-1])
    solid = _solid(raw.shape, unequal)
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
    return {value: ValueCount(total, block) for value, total, block in rows}, len(values), unequal


def edges_of(raw: Raw, unequal: Unequal) -> tuple[int, int]:
    """Count sharp and smooth places of a mask, along rows and columns.

    Args:
        raw: (H, W).
        unequal: As `count_values` returns it.

    Returns:
        The number of neighbors that differ by 2 or more, and the number of pixels strictly between both neighbors.
        Smoothing puts such pixels on edges; in a drawn mask they are rare.
    """
    horizontal = _edges(raw, unequal[0])
    vertical = _edges(raw.T, unequal[1].T)
    return horizontal[0] + vertical[0], horizontal[1] + vertical[1]


def _edges(raw: Raw, unequal: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Count along rows; only the few places where neighbors differ are compared."""
    row, column = np.nonzero(unequal)
    pair = np.stack([raw[row, column], raw[row, column + 1]]).astype(np.int64)
    ids = ~np.isin(pair, _APART).any(axis=0)
    steps = ids & (abs(pair[0] - pair[1]) >= 2)
    row, column = np.nonzero(unequal[:, 1:] & unequal[:, :-1])
    left, middle, right = (raw[row, column + shift].astype(np.int64) for shift in range(3))
    between = (left < middle) & (middle < right) | (left > middle) & (middle > right)
    between &= ~np.isin(np.stack([left, middle, right]), _APART).any(axis=0)
    return int(steps.sum()), int(between.sum())


def _solid(shape: tuple[int, ...], unequal: Unequal) -> npt.NDArray[np.bool_]:
    horizontal, vertical = unequal
    block = ~(horizontal[1:] | horizontal[:-1] | vertical[:, 1:])
    solid = np.zeros(shape, np.bool_)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            solid[rows, columns] |= block
    return solid
