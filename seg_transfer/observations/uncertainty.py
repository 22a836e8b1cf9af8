"""How certain a ranking of sources is: paired differences, the group tied for first, the chance that each is the best.

The images of a target are divided into m groups, and every score comes with its m replicates, each without one group;
the groups are the same for all sources and metrics. What two sources share, such as an image that is hard for both, is
in the replicates of both and cancels in their difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from seg_transfer.errors import ObservationsError
from seg_transfer.observations import FloatArray

BoolArray = npt.NDArray[np.bool_]

DRAWS = 20_000
"""Draws from the joint normal distribution of the scores."""


@dataclass(frozen=True)
class FirstPlace:
    """Which of n sources of one target is first, and how certain that is.

    Attributes:
        score: (n,), by which they are ranked, higher is better; of mean ranks, minus the mean rank.
        standard_error: (n,) of the score; NaN where there are no replicates.
        best: The number of the source that is first; the first of several with the same score.
        difference: (n,), the best score minus the source's, 0 or more.
        difference_error: (n,), its paired standard error; NaN where there are no replicates.
        tied: (n,), the sources that are tied for first: the best, and those whose difference is within 1.96 paired
            standard errors (for the default alpha). Without replicates only equal scores are, and nothing is known of
            the others.
        probability: (n,) with sum 1, the chance that each is the best; NaN where there are no replicates.
    """

    score: FloatArray
    standard_error: FloatArray
    best: int
    difference: FloatArray
    difference_error: FloatArray
    tied: BoolArray
    probability: FloatArray

    @property
    def known(self) -> bool:
        """Whether there were replicates, from which the certainty of the ranking follows."""
        return bool(np.isfinite(self.probability).all())


def first_place(
    scores: npt.ArrayLike, replicates: npt.ArrayLike | None = None, *, alpha: float = 0.05, seed: int = 0
) -> FirstPlace:
    """Which source is first by one metric.

    Differences have the standard errors of the delete-a-group jackknife, sqrt((m - 1) / m * sum of squared deviations
    of the m differences from their mean). Probabilities come from draws of a normal distribution with the jackknife
    covariance of all scores.

    Args:
        scores: (n,), higher is better.
        replicates: (n, m), the same without each group of images. A group whose replicate is NaN for any source is left
            out for all. None, or fewer than two groups: nothing is known of the uncertainty.
        alpha: A source is tied for first unless the best leads it by more than a two-sided test at this level allows;
            0.05 means 1.96 standard errors.
        seed: Of the draws that give the probabilities.

    Returns:
        The best source, its lead over the others with standard errors, the tied ones, and the chance of each to be
        best.

    Raises:
        ObservationsError: There are no scores, shapes do not fit, or scores are not finite.

    Example:
        >>> first_place([3.0, 2.0], [[3.0, 3.1, 2.9], [2.0, 2.1, 1.9]]).tied
        array([ True, False])
    """
    score, usable = _validated({"score": scores}, {"score": replicates})
    only = score["score"]
    best = int(only.argmax())
    difference = only[best] - only
    if usable is None:
        return _unknown(only, best, difference)
    paired = usable["score"][best] - usable["score"]
    error = _jackknife(paired)
    draws = _draws(score, usable, seed)["score"]
    tied = difference <= norm.isf(alpha / 2) * error
    return FirstPlace(only, _jackknife(usable["score"]), best, difference, error, tied, _gpu_groups(draws))


def first_place_by_mean_rank(
    scores: Mapping[str, npt.ArrayLike],
    replicates: Mapping[str, npt.ArrayLike | None],
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> FirstPlace:
    """Which source is first by the mean of the ranks that several metrics give.

    A rank jumps where a score changes a little, and the jackknife needs a smooth quantity: it is not applied to the
    mean rank itself. Instead the scores of all metrics are drawn together from a normal distribution with their
    jackknife covariance, and every draw is ranked.

    Args:
        scores: Of each metric (n,), higher is better, the same n sources in the same order.
        replicates: Of each metric (n, m), the same groups for all; None, or fewer than two: nothing is known.
        alpha: As for one metric, and half of it is the least share of draws in which a tied source is first.
        seed: Of the draws.

    Returns:
        As `first_place`, where the score is minus the mean rank. Errors are standard deviations over the draws, and a
        source is tied for first where it is not worse than the best in at least alpha / 2 of them.

    Raises:
        ObservationsError: There is no metric, shapes do not fit, or scores are not finite.

    Example:
        >>> scores = {"gbc": [3.0, 2.0, 1.0], "leep": [2.0, 3.0, 1.0]}
        >>> first_place_by_mean_rank(scores, {"gbc": None, "leep": None}).score
        array([-1.5, -1.5, -3. ])
    """
    score, usable = _validated(scores, replicates)
    mean_rank = _minus_mean_rank([one[None] for one in score.values()])[0]
    best = int(mean_rank.argmax())
    difference = mean_rank[best] - mean_rank
    if usable is None:
        return _unknown(mean_rank, best, difference)
    ranked = _minus_mean_rank(list(_draws(score, usable, seed).values()))
    lead = ranked[:, [best]] - ranked
    tied = (lead <= 0).mean(axis=0) >= alpha / 2
    return FirstPlace(
        mean_rank, ranked.std(axis=0), best, difference, lead.std(axis=0), tied | (difference == 0), _gpu_groups(ranked)
    )


def _validated(
    scores: Mapping[str, npt.ArrayLike], replicates: Mapping[str, npt.ArrayLike | None]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray] | None]:
    """Scores as arrays, and the replicates of the groups that all have; None where there are fewer than two."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    n = len(next(iter(arrays.values()))) if arrays else 0
    for name, values in arrays.items():
        if values.shape != (n,) or not n or not np.isfinite(values).all():
            raise ObservationsError(
                f"{name}: scores have shape {values.shape}; they must be (n,), finite, and of the same n >= 1 sources"
            )
    found = {name: replicates.get(name) for name in arrays}
    if any(one is None for one in found.values()) or not arrays:
        return arrays, None
    stacked = {name: np.asarray(one, dtype=np.float64) for name, one in found.items()}
    m = next(iter(stacked.values())).shape[-1]
    for name, one in stacked.items():
        if one.shape != (n, m):
            raise ObservationsError(
                f"{name}: replicates have shape {one.shape}; they must be (n, m) = ({n}, {m}), of the same m groups of "
                "images for every source and metric"
            )
    whole = np.all([np.isfinite(one).all(axis=0) for one in stacked.values()], axis=0)
    return arrays, {name: one[:, whole] for name, one in stacked.items()} if whole.sum() > 1 else None


def _jackknife(replicates: FloatArray) -> FloatArray:
    """(n,) standard errors from replicates (n, m)."""
    m = replicates.shape[1]
    errors: FloatArray = np.sqrt((m - 1) * replicates.var(axis=1))
    return errors


def _draws(scores: Mapping[str, FloatArray], replicates: Mapping[str, FloatArray], seed: int) -> dict[str, FloatArray]:
    """(DRAWS, n) of every metric, from the normal distribution of all scores of all metrics together."""
    stacked = np.concatenate(list(replicates.values()))
    m = stacked.shape[1]
    # scores + deviations @ normal has the jackknife covariance (m - 1) / m * deviations @ deviations.T
    deviations = np.sqrt((m - 1) / m) * (stacked - stacked.mean(axis=1, keepdims=True))
    normal = np.random.Generator(np.random.Philox(key=seed)).standard_normal((DRAWS, m))
    drawn = np.concatenate(list(scores.values())) + normal @ deviations.T
    return dict(zip(scores, np.split(drawn, len(scores), axis=1), strict=True))


def _minus_mean_rank(scores: Sequence[FloatArray]) -> FloatArray:
    """(draws, n) minus the mean rank, from the scores (draws, n) of every metric."""
    ranks: FloatArray = np.mean([rankdata(-one, axis=1) for one in scores], axis=0)
    return -ranks


def _gpu_groups(draws: FloatArray) -> FloatArray:
    """(n,) share of draws (draws, n) in which each is the best; several equally good ones share a draw."""
    first = draws == draws.max(axis=1, keepdims=True)
    shares: FloatArray = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def _unknown(score: FloatArray, best: int, difference: FloatArray) -> FirstPlace:
    nothing = np.full_like(score, np.nan)
    return FirstPlace(score, nothing, best, difference, nothing, difference == 0, nothing)
