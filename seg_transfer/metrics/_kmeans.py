"""A partition of rows by k-means: where the fit of a mixture starts."""

import numpy as np

from seg_transfer.observations import FloatArray, IntArray

# EM goes on from here: more steps change its end by less than another start does.
LLOYD_STEPS = 10
# Centers are drawn in at most this many rounds; those of one round do not see each other.
ROUNDS = 32
BLOCK_ROWS = 1024


def partition(z: FloatArray, n_parts: int, rng: np.random.Generator) -> IntArray:
    """Divide rows (n, d) into parts by at most 10 steps of k-means (Lloyd): (n,) in 0 .. n_parts - 1.

    The start is k-means++ (Arthur and Vassilvitskii, 2007), with centers drawn in rounds where there are many parts.
    """
    centers = _spread_rows(z, n_parts, rng)
    nearest = _nearest(z, centers)
    for _ in range(LLOYD_STEPS):
        before, counts = nearest, np.bincount(nearest, minlength=n_parts)[:, None]
        sums = np.stack([np.bincount(nearest, channel, minlength=n_parts) for channel in z.T], axis=1)
        centers = np.divide(sums, counts, out=centers, where=counts > 0)
        nearest = _nearest(z, centers)
        if np.array_equal(nearest, before):
            break
    return nearest


def _spread_rows(z: FloatArray, n_rows: int, rng: np.random.Generator) -> FloatArray:
    """Draw rows, each with probability proportional to its squared distance to the nearest of earlier rounds."""
    chosen = np.empty(0, np.int64)
    squares, distances = np.einsum("ij,ij->i", z, z), np.ones(len(z))
    for drawn in np.array_split(rng.random(n_rows), min(ROUNDS, n_rows)):
        cumulative = np.cumsum(distances)
        new = np.searchsorted(cumulative, drawn * cumulative[-1], side="right").clip(max=len(z) - 1)
        products = z @ z[new].T
        to_new = (squares[:, None] - 2 * products + squares[new]).min(axis=1)
        distances = np.maximum(to_new if not len(chosen) else np.minimum(distances, to_new), 0.0)
        chosen = np.append(chosen, new)
    return z[chosen]


def _nearest(z: FloatArray, centers: FloatArray) -> IntArray:
    halves = (centers**2).sum(axis=1) / 2
    blocks = [z[start : start + BLOCK_ROWS] for start in range(0, len(z), BLOCK_ROWS)]
    return np.concatenate([np.argmin(halves - block @ centers.T, axis=1) for block in blocks])
