"""Ranks, without importing ``scipy.stats``, which takes longer than ranking a few models."""

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays import FloatArray


def shared_ranks(values: npt.ArrayLike) -> FloatArray:
    """Rank values along the last axis, from 1 for the lowest; equal values share the mean of their ranks.

    Args:
        values: Finite numbers of shape (..., n).

    Returns:
        Ranks (..., n) in [1, n].

    Example:
        >>> shared_ranks([0.3, 0.1, 0.3])
        array([2.5, 1. , 2.5])
    """
    array = np.asarray(values)
    order = np.argsort(array, axis=-1, kind="stable")
    ordered = np.take_along_axis(array, order, axis=-1)
    places = np.broadcast_to(np.arange(array.shape[-1]), array.shape)
    differ = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*array.shape[:-1], min(1, array.shape[-1])), dtype=bool)
    # The first and the last place of the run of equal values that each place belongs to.
    first = np.maximum.accumulate(np.where(np.concatenate([edge, differ], axis=-1), places, 0), axis=-1)
    ends = np.where(np.concatenate([differ, edge], axis=-1), places, array.shape[-1])
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    ranks = np.empty(array.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    return ranks
