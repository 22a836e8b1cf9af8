"""A partition of rows by k-means: where the fit of a mixture starts."""

from typing import Any

import numpy as np

from seg_transfer.arrays import arrays_of

# EM goes on from here: more steps change its end by less than another start does.
LLOYD_STEPS = 10
# Centers are drawn in at most this many rounds; those of one round do not see each other.
ROUNDS = 32
UNIT = 2.0**-24


def partition(z: Any, n_parts: int, rng: np.random.Generator) -> Any:
    """Divide rows (n, d) into parts by at most 10 steps of k-means (Lloyd): (n,) in 0 .. n_parts - 1.

    The start is k-means++ (Arthur and Vassilvitskii, 2007), with centers drawn in rounds where there are many parts.
    """
    arrays, centers = arrays_of(z), _spread_rows(z, n_parts, rng)
    nearest = _nearest(z, centers)
    for _ in range(LLOYD_STEPS):
        before, own = nearest, arrays.rows_by_part(nearest, n_parts)
        # A center that no row is nearest to stays.
        filled = np.flatnonzero(own.sizes)
        sums, sizes = arrays.take(arrays.sums_by_part(z, own), filled), arrays.of_host(own.sizes[filled])
        centers[arrays.of_host(filled)] = sums / sizes[:, None]
        nearest = _nearest(z, centers)
        if bool((nearest == before).all()):
            break
    return nearest


def _spread_rows(z: Any, n_rows: int, rng: np.random.Generator) -> Any:
    """Draw rows, each with probability proportional to its squared distance to the nearest of earlier rounds."""
    arrays, chosen = arrays_of(z), np.empty(0, np.int64)
    squares, distances = arrays.to_host(arrays.squared_lengths(z)), np.ones(len(z))
    for drawn in np.array_split(rng.random(n_rows), min(ROUNDS, n_rows)):
        cumulative = np.cumsum(distances)
        new = np.searchsorted(cumulative, drawn * cumulative[-1], side="right").clip(max=len(z) - 1)
        # |x - c|^2 = |x|^2 - 2 (x c - |c|^2 / 2), least where the difference in brackets is largest.
        halves = arrays.of_host(squares[new] / 2)
        to_new = squares - 2 * arrays.to_host(arrays.max(z @ arrays.take(z, new).T - halves))
        distances = np.maximum(to_new if not len(chosen) else np.minimum(distances, to_new), 0.0)
        chosen = np.append(chosen, new)
    return arrays.take(z, chosen)


def _nearest(z: Any, centers: Any) -> Any:
    """Find the nearest center of every row (n,): in float32, and in float64 where that cannot tell.

    A sum of m products of numbers rounded to a unit u is wrong by at most about (m + 4) u times the sum of their
    magnitudes.
    """
    arrays = arrays_of(z)
    halves = arrays.squared_lengths(centers) / 2
    rounded, rounded_halves = arrays.coarse(centers.T), arrays.coarse(halves)
    longest = float((2 * halves.max()) ** 0.5)
    errors = (z.shape[1] + 8) * UNIT * longest * (arrays.squared_lengths(z) ** 0.5 + longest / 2)
    nearest = []
    for start in range(0, len(z), arrays.block_rows):
        rows = z[start : start + arrays.block_rows]
        scores, everywhere = arrays.coarse(rows) @ rounded, arrays.of_host(np.arange(len(rows)))
        scores -= rounded_halves
        best = arrays.argmax(scores)
        lead = arrays.float64(scores[everywhere, best])
        scores[everywhere, best] = -np.inf
        lead -= arrays.max(scores)
        close = arrays.places(lead <= 2 * errors[start : start + arrays.block_rows])
        best[close] = arrays.argmax(arrays.take(rows, close) @ centers.T - halves)
        nearest.append(best)
    return arrays.joined(nearest)
