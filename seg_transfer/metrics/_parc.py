"""PARC: whether observations with similar features have equal labels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, subsampled_features
from seg_transfer.metrics._separation import EPSILON
from seg_transfer.observations import FloatArray, IntArray, Observations
from seg_transfer.observations.passes import numpy_copy

# Distances are counted in steps of 1e-12: those that agree to a step are ties, so that rounding does not order them.
STEPS = 1e12


def parc(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 2000,
    seed: int = 0,
) -> float:
    """Compute the pairwise annotation representation comparison.

    Bolya, Mittapalli and Hoffman, "Scalable Diverse Model Selection for Accessible Transfer Learning", NeurIPS 2021:
    the rank correlation (Spearman), over all pairs of observations, between the distance of their features and that of
    their labels. The distance is 1 minus the Pearson correlation of two rows: of features with every channel
    standardized, and of one-hot labels, so that two labels are equal or not. A row without variance has correlation 0
    with every other. The authors' release first reduces the features to 32 directions by a PCA where sources of
    different width are compared, and multiplies by 100; neither is done here.

    Args:
        features: (N, D).
        labels: (N,) integers.
        max_observations: At most this many observations are used, equally many from every image.
        seed: Seed of the choice of observations.

    Returns:
        A number in [-1, 1]; higher is better.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        >>> features = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
        >>> round(parc(features, np.array([0, 0, 1, 1])), 12)
        1.0
    """
    statistics = Statistics.ungrouped(Observations(features, labels))
    return overall_score(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    features, codes = subsampled_features(statistics.observations, max_observations, seed)
    rows = _standardized_rows(numpy_copy(features, np.arange(len(codes))))
    pairs = np.triu(np.ones((len(rows), len(rows)), np.bool_), 1)
    distances = np.rint((1 - (rows @ rows.T)[pairs]) * STEPS).astype(np.int64)
    return [_rank_correlation(distances, (codes[:, None] != codes)[pairs])]


def _rank_correlation(values: IntArray, flags: npt.NDArray[np.bool_]) -> float:
    """Compute the correlation of the ranks of integers >= 0, equal ones sharing their mean rank, with flags of 0 or 1.

    Ranking the flags would not change it.
    """
    # The flag is the last digit, so that one sort, of plain integers, orders both.
    ordered = np.sort(2 * values + flags)
    n, n_flagged = len(flags), np.count_nonzero(flags)
    starts = np.flatnonzero(np.diff(ordered >> 1, prepend=-1))
    counts = np.diff(starts, append=n)
    # Twice the distance from the mean rank, which keeps it an integer.
    ranks = 2 * starts + counts - n
    spread = float(counts @ np.square(ranks, dtype=np.float64))
    if not spread or n_flagged in (0, n):
        return 0.0
    along = float(np.add.reduceat(ordered & 1, starts) @ ranks)
    correlation = along / np.sqrt(spread * n_flagged * (1 - n_flagged / n))
    return float(np.clip(correlation, -1, 1))


def _standardized_rows(x: FloatArray) -> FloatArray:
    """Scale rows so that their products are Pearson correlations of the rows with standardized channels."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    varies = deviation > EPSILON * np.abs(mean)
    x = (x[:, varies] - mean[varies]) / deviation[varies]
    x -= x.mean(axis=1, keepdims=True) if x.shape[1] else 0.0
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    rows: FloatArray = np.divide(x, lengths, out=np.zeros_like(x), where=lengths > np.sqrt(EPSILON))
    return rows


METRIC = Metric(
    name="parc",
    version=1,
    needs=frozenset({"features"}),
    range="[-1, 1]",
    cost="n^2 D",
    reference="Bolya et al., Scalable Diverse Model Selection, NeurIPS 2021",
    scores=_scores,
    settings={"max_observations": 2000, "seed": 0},
)
