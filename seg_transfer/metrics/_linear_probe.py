"""Linear probe: logistic regression on the features, tested on images that it was not fitted on."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ConfigError
from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, features_of, overall_score
from seg_transfer.metrics._confusion import (
    balanced_accuracy,
    grouped_by_images,
    groups_of_sample,
    remembered,
    scores_from_confusions,
)
from seg_transfer.observations import FloatArray, IntArray, Observations

# Penalties: the weight of |W|^2 / 2 beside the mean cross-entropy.
PENALTIES = (0.01, 0.1, 1.0)
# The choice among them costs less than the fit that follows.
MOST_TO_CHOOSE_BY = 5_000
# L-BFGS ends where no component of the gradient of the mean loss is above scikit-learn's 1e-4, or after this many
# steps: predictions hardly change any more.
MAX_STEPS = 200


def linear_probe(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 30_000,
    seed: int = 0,
) -> float:
    """Compute the balanced accuracy of logistic regression on images that it was not fitted on.

    The images are divided into 10 groups (as many as there are images, if fewer), and the pixels of each group are
    predicted by a multinomial logistic regression fitted on all other groups: scikit-learn's, by L-BFGS, with weights
    that make every class count the same, on features of zero mean and unit variance. It stops after 200 steps where it
    has not converged. `ridge_probe` costs far less.

    The weight of the penalty |W|^2 / 2 beside the mean cross-entropy is 0.01, 0.1 or 1. Each group has its own, chosen
    without it: of the regressions fitted without it and the next group, on at most 5,000 observations, the one that
    predicts that next group best decides, the larger penalty of equally good ones. With two groups nothing is left to
    choose by, and it is 0.1.

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
        ConfigError: A setting is outside its range, or scikit-learn is not installed (the extra ``sklearn``).

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
    sample = statistics.observations.subsample(max_observations, seed)
    groups = groups_of_sample(sample, statistics)
    n_classes = len(sample.classes)
    confusions = np.zeros((statistics.n_groups, n_classes, n_classes), np.int64)
    features = features_of(Statistics.ungrouped(sample)).astype(np.float64)
    for group in np.unique(groups):
        own, rest = groups == group, np.flatnonzero(groups != group)
        penalty = _penalty(features[rest], sample.codes[rest], groups[rest], group)
        predicted = _predictions(features[rest], sample.codes[rest], features[own], penalty)
        np.add.at(confusions[group], (sample.codes[own], predicted), 1)
    return sample, confusions


def _penalty(features: FloatArray, codes: IntArray, groups: IntArray, left_out: int) -> float:
    """Choose the penalty for a group from the others: by the next of them, which the regressions are fitted without."""
    others = np.unique(groups)
    if len(others) < 2:
        return PENALTIES[1]
    own = groups == others[np.searchsorted(others, left_out) % len(others)]
    rest = np.flatnonzero(~own)
    rest = rest[:: -(-len(rest) // MOST_TO_CHOOSE_BY)]

    def accuracy(penalty: float) -> tuple[float, float]:
        right = _predictions(features[rest], codes[rest], features[own], penalty) == codes[own]
        recalls = [right[codes[own] == code].mean() for code in np.unique(codes[own])]
        # Rounded, so that no rounding of the mean decides between equally good ones.
        return round(float(np.mean(recalls)), 12), penalty

    return max(map(accuracy, PENALTIES))[1]


def _predictions(fitted: FloatArray, codes: IntArray, rows: FloatArray, penalty: float) -> IntArray:
    if len(np.unique(codes)) < 2:
        return np.full(len(rows), codes[0] if len(codes) else 0)
    pipeline, scaler, regression, warning = _library()
    # scikit-learn's C is the weight of the summed cross-entropy beside |W|^2 / 2.
    weight = 1 / (penalty * len(fitted))
    model = pipeline(scaler(), regression(C=weight, class_weight="balanced", max_iter=MAX_STEPS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", warning)
        predicted: IntArray = model.fit(fitted, codes).predict(rows)
    return predicted


def _library() -> tuple[Any, Any, Any, Any]:
    # Optional, and it takes a second to import.
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ConfigError(
            f"metric linear_probe needs scikit-learn, which cannot be imported ({error}): "
            "run pip install 'seg_transfer[sklearn]', or leave the metric out"
        ) from error
    return make_pipeline, StandardScaler, LogisticRegression, ConvergenceWarning


SETTINGS = {"max_observations": 30_000, "seed": 0}

METRIC = Metric(
    name="linear_probe",
    version=1,
    needs=frozenset({"features", "image_index"}),
    range="[0, 1]",
    cost="5000 n C D",
    reference="balanced accuracy of logistic regression on held-out images; a baseline",
    scores=_scores,
    settings=SETTINGS,
    additive=True,
    extra="sklearn",
)
