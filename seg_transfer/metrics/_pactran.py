"""PACTran: a PAC-Bayesian bound on the error of a linear classifier on the features."""

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics import _logistic
from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, subsampled_features
from seg_transfer.observations import Observations
from seg_transfer.observations.passes import numpy_copy

# As in the release: the prior variance of all weights of one class together, for a prior with the weight of one of N
# observations.
PRIOR_VARIANCE = 100.0


def pactran(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    max_observations: int = 4000,
    seed: int = 0,
) -> float:
    """Compute PACTran with a Gaussian prior: minus a PAC-Bayesian bound on the error of a linear classifier.

    Ding et al., "PACTran: PAC-Bayesian Metrics for Estimating the Transferability of Pretrained Models to
    Classification Tasks", ECCV 2022. The bound is the sum of two terms. The first is the least value of the mean
    cross-entropy of a linear classifier of the centered features plus |W|^2 / (2 N). The second is the cost of the
    posterior's width, C D / (2 N) s^2 log(1 + N tr(H) / (C D)), where s^2 = 100 / D and H contains the second
    derivatives of the mean cross-entropy at the minimum, including those of the C intercepts. These constants are the
    middle ones of those that the authors' release tries; the release uses 8000 observations.

    The score is exact to about 1e-10, whereas the release stops early from a random start. One case does not converge:
    a classifier that separates the classes along directions of little variance, as can happen with an untrained
    network. The bound is then that of the classifier after 4000 products with H, which is valid and slightly looser.
    For H, the release sums over the observations where the bound has their mean: its values are lower by nearly the
    same amount, 50 C / N log N, for all sources of a target.

    Args:
        features: (N, D).
        labels: (N,) integers, C classes.
        max_observations: At most this many observations are used, equally many from every image.
        seed: Seed of the choice of observations.

    Returns:
        A number in (-inf, 0]; higher is better. The scale of the features matters.

    Raises:
        ObservationsError: The features hold NaN or infinite values, or there are fewer than two classes or
            observations.
        ConfigError: A setting is outside its range.

    Example:
        >>> features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
        >>> pactran(features, labels) > pactran(features, np.array([0, 1, 1, 0]))
        True
    """
    statistics = Statistics.ungrouped(Observations(features, labels))
    return overall_score(_scores(statistics, max_observations=max_observations, seed=seed))


def _scores(statistics: Statistics, *, max_observations: int, seed: int) -> Scores:
    features, codes = subsampled_features(statistics.observations, max_observations, seed)
    x = numpy_copy(features, np.arange(len(codes)))
    x -= x.mean(axis=0)
    fit, n_classes = _logistic.fit(x, codes), int(codes.max()) + 1
    n, n_weights = len(x), x.shape[1] * n_classes
    # The trace of H: each class's p (1 - p) times the squared features, with 1 for the intercept.
    curvature = (np.einsum("ij,ij->i", x, x) + 1) @ fit.variances.sum(axis=1) / n
    width = PRIOR_VARIANCE * n_classes / (2 * n) * np.log1p(n * curvature / n_weights)
    return [-float(fit.loss + width)]


METRIC = Metric(
    name="pactran",
    version=1,
    needs=frozenset({"features"}),
    range="(-inf, 0]",
    cost="n D^2 + D^3 + 400 n C D",
    reference="Ding et al., PACTran, ECCV 2022",
    scores=_scores,
    settings={"max_observations": 4000, "seed": 0},
)
