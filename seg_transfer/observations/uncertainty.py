"""How certain a ranking of sources is: paired differences, ties for first, the probability that each is the best.

The images of a target are divided into m groups. Every score comes with m replicates, each computed without one group.
The groups are the same for all sources and metrics, so that an effect that two sources share, such as an image that is
hard for both, is in the replicates of both and cancels in their difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from seg_transfer.errors import ObservationsError
from seg_transfer.observations import FloatArray
from seg_transfer.observations.ranks import shared_ranks

BoolArray = npt.NDArray[np.bool_]

DRAWS = 20_000
"""Number of draws from the joint normal distribution of the scores."""


@dataclass(frozen=True)
class FirstPlace:
    """The best of n sources of one target, and how certain it is.

    Attributes:
        score: (n,) the values that decide the ranking, higher is better. For a ranking by mean rank: minus the mean
            rank.
        standard_error: (n,) standard errors of the scores; NaN where there are no replicates.
        best: Index of the best source; the first of several with the same score.
        difference: (n,) the best score minus the source's, 0 or more.
        difference_error: (n,) paired standard errors of the differences; NaN where there are no replicates.
        tied: (n,) whether a source is tied for first: the best is, and those whose difference is within 1.96 paired
            standard errors (with the default alpha). Without replicates only equal scores are tied.
        probability: (n,) the probability that each source is the best, with sum 1; NaN where there are no replicates.
    """

    score: FloatArray
    standard_error: FloatArray
    best: int
    difference: FloatArray
    difference_error: FloatArray
    tied: BoolArray
    probability: FloatArray

    @property
    def has_uncertainty(self) -> bool:
        """Whether the scores had replicates, so that the uncertainty of the ranking is known."""
        return bool(np.isfinite(self.probability).all())


def first_place(
    scores: npt.ArrayLike, replicates: npt.ArrayLike | None = None, *, alpha: float = 0.05, seed: int = 0
) -> FirstPlace:
    """Find the best source by one metric, and how certain it is.

    Standard errors of differences are those of the delete-a-group jackknife, sqrt((m - 1) / m * sum of squared
    deviations of the m differences from their mean). Probabilities come from draws of a normal distribution with the
    jackknife covariance of all scores.

    Args:
        scores: (n,), higher is better.
        replicates: (n, m), the scores without each group of images. A group whose replicate is NaN for any source is
            left out for all. With None, or fewer than two groups, the uncertainty is unknown.
        alpha: A source is tied for first unless the best leads it by more than a two-sided test at this level allows;
            0.05 means 1.96 standard errors.
        seed: Seed of the draws that give the probabilities.

    Returns:
        The best source, its lead over the others with standard errors, the ties for first, and the probability that
        each source is the best.

    Raises:
        ObservationsError: There are no scores, shapes do not fit, or scores are not finite.

    Example:
        >>> first_place([3.0, 2.0], [[3.0, 3.1, 2.9], [2.0, 2.1, 1.9]]).tied
        array([ True, False])
    """
    by_name, usable = _validated({"score": scores}, {"score": replicates})
    score = by_name["score"]
    best = int(score.argmax())
    difference = score[best] - score
    if usable is None:
        return _without_uncertainty(score, best, difference)
    paired = usable["score"][best] - usable["score"]
    error = _jackknife(paired)
    draws = _draws(by_name, usable, seed)["score"]
    tied = difference <= -ndtri(alpha / 2) * error
    return FirstPlace(score, _jackknife(usable["score"]), best, difference, error, tied, _shares_of_best(draws))


def first_place_by_mean_rank(
    scores: Mapping[str, npt.ArrayLike],
    replicates: Mapping[str, npt.ArrayLike | None],
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> FirstPlace:
    """Find the best source by the mean of the ranks that several metrics give, and how certain it is.

    The jackknife needs a smooth quantity, and a rank can jump where a score changes a little. It is therefore not
    applied to the mean rank itself. Instead, the scores of all metrics are drawn together from a normal distribution
    with their jackknife covariance, and every draw is ranked.

    Args:
        scores: Metric -> scores (n,) of the same n sources in the same order, higher is better.
        replicates: Metric -> replicates (n, m), with the same groups for all metrics. With None, or fewer than two
            groups, the uncertainty is unknown.
        alpha: A source is tied for first where at least alpha / 2 of the draws do not rank it below the best.
        seed: Seed of the draws.

    Returns:
        As for `first_place`, with minus the mean rank as the score. Errors are standard deviations over the draws.

    Raises:
        ObservationsError: There is no metric, shapes do not fit, or scores are not finite.

    Example:
        >>> scores = {"gbc": [3.0, 2.0, 1.0], "leep": [2.0, 3.0, 1.0]}
        >>> first_place_by_mean_rank(scores, {"gbc": None, "leep": None}).score
        array([-1.5, -1.5, -3. ])
    """
    score, usable = _validated(scores, replicates)
    minus_mean_rank = _minus_mean_rank([values[None] for values in score.values()])[0]
    best = int(minus_mean_rank.argmax())
    difference = minus_mean_rank[best] - minus_mean_rank
    if usable is None:
        return _without_uncertainty(minus_mean_rank, best, difference)
    draws = _minus_mean_rank(list(_draws(score, usable, seed).values()))
    lead = draws[:, [best]] - draws
    tied = (lead <= 0).mean(axis=0) >= alpha / 2
    return FirstPlace(
        minus_mean_rank,
        draws.std(axis=0),
        best,
        difference,
        lead.std(axis=0),
        tied | (difference == 0),
        _shares_of_best(draws),
    )


def _validated(
    scores: Mapping[str, npt.ArrayLike], replicates: Mapping[str, npt.ArrayLike | None]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray] | None]:
    """Return scores as arrays, and replicates of the groups that all have; None where those are fewer than two."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    n = len(next(iter(arrays.values()))) if arrays else 0
    for name, values in arrays.items():
        if values.shape != (n,) or not n or not np.isfinite(values).all():
            raise ObservationsError(
                f"{name}: scores have shape {values.shape}; they must be finite and (n,), for the same n >= 1 sources"
            )
    given = {name: replicates.get(name) for name in arrays}
    if any(values is None for values in given.values()) or not arrays:
        return arrays, None
    stacked = {name: np.asarray(values, dtype=np.float64) for name, values in given.items()}
    m = next(iter(stacked.values())).shape[-1]
    for name, values in stacked.items():
        if values.shape != (n, m):
            raise ObservationsError(
                f"{name}: replicates have shape {values.shape}; they must be (n, m) = ({n}, {m}), for the same m "
                "groups of images for every source and metric"
            )
    complete = np.all([np.isfinite(values).all(axis=0) for values in stacked.values()], axis=0)
    return arrays, {name: values[:, complete] for name, values in stacked.items()} if complete.sum() > 1 else None


def _jackknife(replicates: FloatArray) -> FloatArray:
    """Compute standard errors (n,) from replicates (n, m)."""
    m = replicates.shape[1]
    errors: FloatArray = np.sqrt((m - 1) * replicates.var(axis=1))
    return errors


def _draws(scores: Mapping[str, FloatArray], replicates: Mapping[str, FloatArray], seed: int) -> dict[str, FloatArray]:
    """Draw scores (DRAWS, n) for every metric from the joint normal distribution of all scores of all metrics."""
    stacked = np.concatenate(list(replicates.values()))
    m = stacked.shape[1]
    # scores + deviations @ normal has the jackknife covariance (m - 1) / m * deviations @ deviations.T
    deviations = np.sqrt((m - 1) / m) * (stacked - stacked.mean(axis=1, keepdims=True))
    normal = np.random.Generator(np.random.Philox(key=seed)).standard_normal((DRAWS, m))
    drawn = np.concatenate(list(scores.values())) + normal @ deviations.T
    return dict(zip(scores, np.split(drawn, len(scores), axis=1), strict=True))


def _minus_mean_rank(scores: Sequence[FloatArray]) -> FloatArray:
    """Compute minus the mean rank, (draws, n), from the scores (draws, n) of every metric."""
    ranks: FloatArray = np.mean([shared_ranks(-values) for values in scores], axis=0)
    return -ranks


def _shares_of_best(draws: FloatArray) -> FloatArray:
    """Return the share (n,) of draws (draws, n) in which each is the best; equally good ones share a draw."""
    first = draws == draws.max(axis=1, keepdims=True)
    shares: FloatArray = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def _without_uncertainty(score: FloatArray, best: int, difference: FloatArray) -> FirstPlace:
    unknown = np.full_like(score, np.nan)
    return FirstPlace(score, unknown, best, difference, unknown, difference == 0, unknown)
