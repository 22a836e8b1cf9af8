"""Squared Euclidean distances between two sets of points, from one matrix product."""

import numpy as np
from scipy.spatial.distance import cdist

from seg_transfer.observations import FloatArray

# A squared distance below this fraction of |x|^2 + |y|^2 is the small difference of large numbers, and is computed
# again from the difference of the points. What the product leaves of the others is exact to about 1e-12.
SMALL = 1e-3
# Above this share of small distances, all are computed from differences.
MANY = 0.05
# Pairs whose differences are in memory at once.
PAIRS = 4096


def squared_distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Compute |x - y|^2 for all pairs of points, to about 1e-12 of each; exactly 0 for equal points.

    Args:
        first: (n, D).
        second: (m, D).

    Returns:
        (n, m).

    Example:
        >>> squared_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0]]))
        array([[ 0.],
               [25.]])
    """
    # About a point among them, distances are as large as can be beside the lengths.
    center = first.mean(axis=0)
    x = first - center
    # NumPy takes half the products where both factors are the same array.
    y = x if second is first else second - center
    lengths = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
    squares: FloatArray = x @ y.T
    squares *= -2
    squares += lengths
    if second is first:
        np.fill_diagonal(squares, 0.0)
        np.fill_diagonal(lengths, 0.0)
    small = squares < np.multiply(lengths, SMALL, out=lengths)
    if np.count_nonzero(small) > max(MANY * small.size, PAIRS):
        return np.asarray(cdist(first, second, "sqeuclidean"), dtype=np.float64)
    rows, columns = np.nonzero(small)
    for start in range(0, len(rows), PAIRS):
        some = slice(start, start + PAIRS)
        difference = first[rows[some]] - second[columns[some]]
        squares[rows[some], columns[some]] = np.einsum("ij,ij->i", difference, difference)
    return squares
