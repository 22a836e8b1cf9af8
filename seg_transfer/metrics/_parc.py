"""PARC: whether observations with similar features have equal labels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, subsampled_features
from seg_transfer.metrics._separation import EPSILON
from seg_transfer.observations import FloatArray, Observations
from seg_transfer.observations.passes import numpy_copy

# Distances that agree to this many digits are ties, so that rounding does not order them.
DECIMALS = 12


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
    first, second = np.triu_indices(len(rows), 1)
    distances = np.round(1 - (rows @ rows.T)[first, second], DECIMALS)
    differ = codes[first] != codes[second]
    if differ.all() or distances.min() == distances.max():
        return [0.0]
    from scipy.stats import rankdata  # takes half a second, which other metrics need not wait for

    # Ranking a binary variable does not change its correlations.
    return [float(np.clip(np.corrcoef(rankdata(distances), differ)[0, 1], -1, 1))]


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
