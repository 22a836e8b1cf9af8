"""k nearest neighbors in other images: whether similar features have the same class."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays import arrays_of
from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, features_of, overall_score
from seg_transfer.metrics._confusion import (
    balanced_accuracy,
    confusions_of,
    grouped_by_images,
    groups_of_sample,
    scores_from_confusions,
)
from seg_transfer.observations import IntArray, Observations


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
    sample = statistics.observations.subsample(max_observations, seed)
    assert sample.image_index is not None
    images = np.unique(sample.image_index, return_inverse=True)[1]
    rows = _unit_rows(features_of(Statistics.ungrouped(sample)))
    predicted = _majorities(sample.codes, arrays_of(rows).nearest(rows, images, min(k, len(rows))))
    confusions = confusions_of(sample.codes, predicted, groups_of_sample(sample, grouped), grouped.n_groups)
    return scores_from_confusions(statistics, confusions, balanced_accuracy)


def _unit_rows(features: Any) -> Any:
    """Copy rows in float64, scaled to length 1; rows of zeros stay."""
    arrays = arrays_of(features)
    rows = arrays.float64(features)
    lengths = arrays.squared_lengths(rows) ** 0.5
    rows /= (lengths + (lengths == 0))[:, None]
    return rows


def _majorities(codes: IntArray, neighbors: IntArray) -> IntArray:
    """Return the most frequent class (N,) of every row's neighbors, the nearest first; of equal ones, the first."""
    n_classes, everywhere = int(codes.max()) + 1, np.arange(len(neighbors))[:, None]
    # Where neighbors are missing, they have a class of their own, without votes.
    classes = np.append(codes, n_classes)[neighbors]
    cells = everywhere * (n_classes + 1) + classes
    counts = np.bincount(cells.ravel(), minlength=len(neighbors) * (n_classes + 1))
    votes = np.where(classes < n_classes, counts[cells], 0)
    majorities: IntArray = classes[everywhere[:, 0], votes.argmax(axis=1)]
    return majorities


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
