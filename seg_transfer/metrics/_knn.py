"""k nearest neighbors in other images: whether similar features have the same class."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, overall_score
from seg_transfer.metrics._confusion import (
    balanced_accuracy,
    confusions_of,
    grouped_by_images,
    groups_of_sample,
    scores_from_confusions,
)
from seg_transfer.observations import FloatArray, IntArray, Observations

# Similarities that agree to this many digits are ties, so that rounding does not order them: products of unit rows in
# float64 are exact to about 1e-15.
DECIMALS = 12
# 256 x 10,000 similarities are 10 MB in float32.
BLOCK_ROWS = 256
# Two of k neighbors rarely share one of so many parts.
PARTS_PER_NEIGHBOR = 16
# A query with more candidates than this share of all rows shares one matrix product with others of its kind.
LARGE_SHARE = 0.05


def knn(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
    *,
    k: int = 20,
    max_observations: int = 10_000,
    seed: int = 0,
) -> float:
    """Compute the balanced accuracy of the k nearest neighbors in other images.

    The class of every observation is predicted by majority among the k observations with the most similar features.
    Observations of the same image are no neighbors: nearby pixels have nearly equal features and labels, and would
    make any source look good. The score is the mean over the classes of the share that is predicted correctly.

    The similarity is the cosine of two rows, rounded to 12 digits: features whose mean is 10^6 times as large as their
    differences lose some of these. A row of zeros has similarity 0 with every other. Of equally similar rows the first
    is nearer. Of classes with equally many votes, that of the nearest neighbor wins. Where other images hold fewer than
    k observations, all of them vote.

    Args:
        features: (N, D).
        labels: (N,) integers.
        image_index: (N,) integers, the image of each observation.
        k: Number of neighbors.
        max_observations: Number of observations to use, as many from every image; fewer if there are fewer.
        seed: Seed of the choice of observations.

    Returns:
        A number in [0, 1]; higher is better. Labels that have nothing to do with the features give about 1 / C.

    Raises:
        ObservationsError: The features hold NaN or infinite values, there are fewer than two classes or observations,
            or all observations come from one image.
        ConfigError: A setting is outside its range.

    Example:
        Each observation has one neighbor of either class, and the nearer one decides. The last one errs.

        >>> features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, 0.9]])
        >>> knn(features, np.array([0, 1, 0, 1]), image_index=np.array([0, 0, 1, 1]))
        0.75
    """
    statistics = Statistics.ungrouped(Observations(features, labels, image_index=image_index))
    return overall_score(_scores(statistics, k=k, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, k: int, max_observations: int, seed: int) -> Scores:
    """Compute the score, and the scores of the same predictions without each group."""
    check_setting(k >= 1, "k", k, "1 or more")
    check_setting(max_observations >= 2, "max_observations", max_observations, "2 or more")
    grouped = grouped_by_images(statistics)
    sample = statistics.observations.subsample(max_observations, seed).in_numpy()
    assert sample.features is not None
    assert sample.image_index is not None
    rows = _unit_rows(sample.features)
    images = np.unique(sample.image_index, return_inverse=True)[1].astype(np.int32)
    predicted = _predictions(rows, sample.codes, images, k)
    confusions = confusions_of(sample.codes, predicted, groups_of_sample(sample, grouped), grouped.n_groups)
    return scores_from_confusions(statistics, confusions, balanced_accuracy)


def _unit_rows(features: npt.NDArray[Any]) -> FloatArray:
    """Scale every row to length 1; rows of zeros stay."""
    rows = features.astype(np.float64, order="C")
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        np.divide(block, lengths, out=block, where=lengths > 0)
    return rows


def _predictions(rows: FloatArray, codes: IntArray, images: npt.NDArray[np.int32], k: int) -> IntArray:
    """Predict the class (N,) of every row from its k nearest in other images."""
    screen, predicted = _Screen.of(rows), np.empty_like(codes)
    for start in range(0, len(rows), BLOCK_ROWS):
        queries = np.arange(start, min(start + BLOCK_ROWS, len(rows)))
        candidates = screen.candidates(queries, images, min(k, len(rows)))
        large = candidates.sum(axis=1) > k + LARGE_SHARE * len(rows)
        products = iter(rows[queries[large]] @ rows.T)
        for query, chosen, is_large in zip(queries, candidates, large, strict=True):
            others = np.flatnonzero(chosen)
            similarity = next(products)[others] if is_large else (rows[others] * rows[query]).sum(axis=1)
            nearest = np.argsort(-np.round(similarity, DECIMALS), kind="stable")[:k]
            predicted[query] = _majority(codes[others[nearest]])
    return predicted


def _majority(codes: IntArray) -> np.int64:
    """Return the most frequent class of some neighbors, the nearest first; of equally frequent ones, the first."""
    votes = np.bincount(codes)[codes]
    winner: np.int64 = codes[votes.argmax()]
    return winner


@dataclass(frozen=True, eq=False)
class _Screen:
    """Finds all rows that may be among the k nearest, by products in float32 that cost half as much as in float64.

    With x = center + d, the similarities x_i x_j of a query i are d_i d_j + center d_j plus a number that is the same
    for every j. Of these smaller numbers, float32 rounds off less: rows that all have nearly the same direction would
    otherwise all be candidates.

    Attributes:
        columns: (N, D + 1), d_j and center d_j.
        margins: (N,), a row whose approximate similarity is below the k-th largest by more than this is no neighbor.
    """

    columns: npt.NDArray[np.float32]
    margins: FloatArray

    @classmethod
    def of(cls, rows: FloatArray) -> "_Screen":
        center, (n, width) = rows.mean(axis=0), rows.shape
        columns, lengths, offsets = np.empty((n, width + 1), np.float32), np.empty(n), np.empty(n)
        for start in range(0, n, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            deviations = rows[block] - center
            lengths[block], offsets[block] = np.linalg.norm(deviations, axis=1), deviations @ center
            columns[block, :-1], columns[block, -1] = deviations, offsets[block]
        # A sum of n products of numbers rounded to a unit u is wrong by at most about (n + 2) u times the sum of their
        # magnitudes, in whatever order it is taken; by Cauchy-Schwarz, that sum is at most the following one.
        magnitudes = lengths * lengths.max() + np.abs(offsets).max()
        error = 1.1 * (width + 3) * 2.0**-24 * magnitudes
        # In float64, and when rounded to DECIMALS digits, similarities differ from exact ones by at most this.
        rounding = 0.5 * 10.0**-DECIMALS + width * 2.0**-51
        return cls(columns, 2 * (error + rounding))

    def candidates(self, queries: IntArray, images: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.bool_]:
        """Return, for every query (q,), whether each row (N,) is in another image and may be among the k nearest."""
        left = self.columns[queries]
        left[:, -1] = 1.0
        similarities = left @ self.columns.T
        np.copyto(similarities, -np.inf, where=images[queries, None] == images)
        lowest = _bound_of_kth_largest(similarities, k) - self.margins[queries]
        lowest = np.nextafter(lowest.astype(np.float32), np.float32(-np.inf))
        # Fewer than k rows of other images: all of them are candidates, and none of the same image.
        possible: npt.NDArray[np.bool_] = similarities >= np.maximum(lowest, np.finfo(np.float32).min)[:, None]
        return possible


def _bound_of_kth_largest(values: npt.NDArray[np.float32], k: int) -> FloatArray:
    """Return numbers (q,) that are at most the k-th largest of each row (N,), and rarely below one of the next few.

    They are the k-th largest of the maxima of disjoint parts of the row: so many numbers are at least as large.
    """
    n_parts = PARTS_PER_NEIGHBOR * k
    if (length := values.shape[1] // n_parts) > 1:
        values = values[:, : n_parts * length].reshape(len(values), length, n_parts).max(axis=1)
    last = values.shape[1] - k
    bounds: FloatArray = np.partition(values, last, axis=1)[:, last].astype(np.float64)
    return bounds


METRIC = Metric(
    name="knn",
    version=1,
    needs=frozenset({"features", "image_index"}),
    range="[0, 1]",
    cost="n^2 D",
    reference="k nearest neighbors by cosine similarity, in other images",
    scores=_scores,
    settings={"k": 20, "max_observations": 10_000, "seed": 0},
    additive=True,
)
