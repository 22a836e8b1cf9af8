"""Linear probe: logistic regression on the features, tested on images that it was not fitted on."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, features_of, overall_score
from seg_transfer.metrics._confusion import (
    balanced_accuracy,
    grouped_by_images,
    groups_of_sample,
    scores_from_confusions,
)
from seg_transfer.metrics._memo import remembered
from seg_transfer.metrics._rows import Fit, Rows
from seg_transfer.metrics._softmax import Problem, fit, fits
from seg_transfer.observations import IntArray, Observations

# Penalties: the weight of |W|^2 / 2 beside the mean cross-entropy. Equally good ones: the first.
PENALTIES = (1.0, 0.3, 0.1)
TYPICAL_PENALTY = 0.3
# As a fraction of the loss: about one prediction in 100 is not yet what it would become.
TOLERANCE = 3e-4


def linear_probe(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 5_000,
    seed: int = 0,
) -> float:
    """Compute the balanced accuracy of logistic regression on images that it was not fitted on.

    The images are divided into 10 groups (as many as there are images, if fewer), and the pixels of each group are
    predicted by a multinomial logistic regression fitted on all other groups, with weights that make every class count
    the same, on features of zero mean and unit variance. It is fitted until another step would lower the loss by less
    than about 0.02 % of it. `ridge_probe` costs less where there are many classes.

    The weight of the penalty |W|^2 / 2 beside the mean cross-entropy is 1, 0.3 or 0.1. Each group has its own, chosen
    without it: groups come in pairs, and of the regressions fitted without both, the one that predicts the other group
    of the pair best decides; the larger penalty of equally good ones. With two groups nothing is left to choose by, and
    it is 0.3.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        image_index: (N,) integers, the image of each observation.
        max_observations: At most this many observations are used, equally many from every image.
        seed: Seed of the choice of observations.

    Returns:
        The mean recall of the classes, in [0, 1]; chance is 1 / C. A class that only one group has is never predicted.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes, observations
            or images.
        ConfigError: A setting is outside its range.

    Example:
        >>> features, labels = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> linear_probe(features, labels, image_index=np.array([0, 1, 0, 1]))
        1.0
    """
    statistics = Statistics.ungrouped(Observations(features, labels, image_index=image_index))
    return overall_score(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    _, confusions = sample_and_confusions(statistics, max_observations, seed)
    return scores_from_confusions(statistics, confusions, balanced_accuracy)


def sample_and_confusions(statistics: Statistics, max_observations: int, seed: int) -> tuple[Observations, IntArray]:
    """Return the observations used, and the numbers (m, C, C) of them by group, true class and predicted class."""
    check_setting(max_observations >= 2, "max_observations", max_observations, "2 or more")
    grouped, key = grouped_by_images(statistics), ("linear probe", max_observations, seed)
    return remembered(statistics, key, lambda: _predict(grouped, max_observations, seed))


def _predict(statistics: Statistics, max_observations: int, seed: int) -> tuple[Observations, IntArray]:
    sample = statistics.observations.subsample(max_observations, seed).in_numpy()
    groups, n_groups = groups_of_sample(sample, statistics), statistics.n_groups
    present, own = np.unique(groups, return_inverse=True)
    rows = Rows.of(features_of(Statistics.ungrouped(sample)), sample.codes, own, len(present))
    confusions = np.zeros((n_groups, len(sample.classes), len(sample.classes)), np.int64)
    for group, (penalty, start) in _chosen(rows).items():
        problem = Problem.of(rows, {group})
        found = problem.fit_of(fit(problem, penalty, problem.start(start), TOLERANCE))
        np.add.at(confusions[present[group]], (rows.codes_of(group), rows.predictions(group, found)), 1)
    return sample, confusions


def _chosen(rows: Rows) -> dict[int, tuple[float, Fit | None]]:
    """Choose the penalty of every group, and a fit to start from, without that group."""
    n_groups = len(rows.bounds) - 1
    if n_groups <= 2:
        return dict.fromkeys(range(n_groups), (TYPICAL_PENALTY, None))
    chosen: dict[int, tuple[float, Fit | None]] = {}
    for group in range(0, n_groups, 2):
        # The last of an odd number of groups is paired with the first, whose own choice stays.
        chosen = {**_chosen_by_pair(rows, (group, (group + 1) % n_groups)), **chosen}
    return chosen


def _chosen_by_pair(rows: Rows, pair: tuple[int, int]) -> dict[int, tuple[float, Fit | None]]:
    """Choose for both groups by the same fits without them: for either, by the predictions for the other."""
    problem = Problem.of(rows, pair)
    fitted = [problem.fit_of(unknowns) for unknowns in fits(problem, PENALTIES, problem.start(), TOLERANCE)]
    accuracies = {
        group: [_accuracy(rows.codes_of(group), rows.predictions(group, found)) for found in fitted] for group in pair
    }
    best = {group: int(np.argmax(accuracies[other])) for group, other in (pair, pair[::-1])}
    return {group: (PENALTIES[index], fitted[index]) for group, index in best.items()}


def _accuracy(codes: IntArray, predicted: IntArray) -> float:
    """Return the mean recall, rounded, so that no rounding of the mean decides between equally good predictions."""
    right = predicted == codes
    return round(float(np.mean([right[codes == code].mean() for code in np.unique(codes)])), 12)


SETTINGS = {"max_observations": 5_000, "seed": 0}

METRIC = Metric(
    name="linear_probe",
    version=2,
    needs=frozenset({"features", "image_index"}),
    range="[0, 1]",
    cost="n D^2 + 8 D^3 + 400 n C D",
    reference="balanced accuracy of logistic regression on held-out images; a baseline",
    scores=_scores,
    settings=SETTINGS,
    additive=True,
)
