"""How noisy fine-tuning itself is: the same pair with another seed, and the ranking by it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals, weighted_means
from seg_transfer.evaluation._measures import Array, measures
from seg_transfer.evaluation._pairs import SCENARIOS, SCRATCH, axes_of

_MEASURES = ("top1", "tau_w")
# Two-sided, 95 %.
_NORMAL_QUANTILE = 1.96


def fine_tuning_noise(
    fine_tunings: pd.DataFrame, *, n_bootstrap: int = 2000, seed: int = 0, scenarios: Sequence[str] = SCENARIOS
) -> pd.DataFrame:
    """What seeds change, and how well one fine-tuning per pair would rank: one row per scenario.

    A metric that reaches this tau_w ranks as well as fine-tuning everything once does.

    Args:
        fine_tunings: One row per fine-tuning: source, target, seed, miou. Scratch is not ranked; only seeds count that
            every other pair has.
        n_bootstrap: As in `evaluate`.
        seed: As in `evaluate`, whose draws of groups are these.
        scenarios: As in `evaluate`.

    Returns:
        No rows where the pairs have not at least two seeds in common, or no group has two items. Columns:

        * scenario, n_groups (of two items or more), n_seeds
        * sd: standard deviation of mIoU between seeds of a pair, pooled over pairs
        * fraction_distinguishable: share in [0, 1] of rivals, two of a group, whose means over seeds differ by more
          than 1.96 standard errors of the difference; the variance between seeds is that of all pairs of a target
        * top1, tau_w: of a ranking by one seed against the mean of the other seeds, mean over seeds and groups
        * of both, NAME_low and NAME_high: the 95 % percentile-bootstrap interval over groups

    Example:
        >>> fine_tunings = pd.DataFrame({
        ...     "source": ["a", "a", "b", "b"],
        ...     "target": ["t", "t", "t", "t"],
        ...     "seed": [0, 1, 0, 1],
        ...     "miou": [0.60, 0.62, 0.40, 0.42],
        ... })
        >>> fine_tuning_noise(fine_tunings)[["sd", "fraction_distinguishable", "top1"]].round(4).to_numpy().tolist()
        [[0.0141, 1.0, 1.0]]
    """
    by_seed = _by_seed(fine_tunings)
    rows = _rows(by_seed, scenarios, n_bootstrap, seed) if by_seed.shape[1] > 1 else ()
    bounds = [f"{measure}{end}" for measure in _MEASURES for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["scenario", "n_groups", "n_seeds", "sd", "fraction_distinguishable", *bounds])


def chance_margins(fine_tunings: pd.DataFrame) -> dict[str, float]:
    """By how much two pairs of a target differ in mIoU, means over seeds, by seeds alone: 1.96 standard errors, by
    target.

    Args:
        fine_tunings: As in `fine_tuning_noise`; the result is empty where that has no rows.
    """
    by_seed = _by_seed(fine_tunings)
    if by_seed.shape[1] < 2:
        return {}
    variances = _variances_of_means(by_seed).groupby(level="target").first()
    return {str(target): _NORMAL_QUANTILE * float(np.sqrt(2 * value)) for target, value in variances.items()}


def _by_seed(fine_tunings: pd.DataFrame) -> pd.DataFrame:
    """One row per pair of source and target, one column per seed that all of them have."""
    ranked = fine_tunings[fine_tunings["source"] != SCRATCH]
    return ranked.pivot(index=["source", "target"], columns="seed", values="miou").dropna(axis="columns")


def _variances_of_means(by_seed: pd.DataFrame) -> "pd.Series[float]":
    """Of every pair, the variance of its mean over seeds, pooled over the pairs of its target.

    A target's images and classes decide how much seeds scatter: it differs between targets by far more than by chance.
    """
    variance = by_seed.var(axis="columns", ddof=1)
    return variance.groupby(level="target").transform("mean") / by_seed.shape[1]


def _rows(by_seed: pd.DataFrame, scenarios: Sequence[str], n_bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
    of_mean = _variances_of_means(by_seed)
    shared = {"n_seeds": by_seed.shape[1], "sd": float(np.sqrt(by_seed.var(axis="columns", ddof=1).mean()))}
    for scenario in scenarios:
        members = by_seed.groupby(level=axes_of(scenario)[0])
        groups = [group for _, group in members if len(group) > 1]
        if not groups:
            continue
        apart = np.concatenate([_distinguishable(group.mean(axis="columns"), of_mean[group.index]) for group in groups])
        row: dict[str, Any] = {
            "scenario": scenario,
            "n_groups": len(groups),
            **shared,
            "fraction_distinguishable": apart.mean(),
        }
        values = np.array([_one_against_the_others(group.to_numpy(np.float64)) for group in groups])
        means = weighted_means(np.ones((1, len(groups))), values)[0]
        low, high = percentile_intervals(weighted_means(bootstrap_draws(len(groups), n_bootstrap, seed), values))
        for column, measure in enumerate(_MEASURES):
            row[measure] = means[column]
            row[f"{measure}_low"], row[f"{measure}_high"] = low[column], high[column]
        yield row


def _distinguishable(means: "pd.Series[float]", variances: "pd.Series[float]") -> npt.NDArray[np.bool_]:
    """Whether every two items differ by more than chance, from their means over seeds and the variances of these."""
    value, variance = means.to_numpy(), variances.to_numpy()
    first, second = np.triu_indices(len(value), 1)
    apart: npt.NDArray[np.bool_] = np.abs(value[first] - value[second]) > _NORMAL_QUANTILE * np.sqrt(
        variance[first] + variance[second]
    )
    return apart


def _one_against_the_others(group: Array) -> Array:
    """The measures of each seed's ranking against the mean of the other seeds, averaged over seeds; (items, seeds)."""
    n_seeds = group.shape[1]
    others = (group.sum(axis=1, keepdims=True) - group) / (n_seeds - 1)
    found = [measures(others[:, seed], group[:, seed]) for seed in range(n_seeds)]
    values = np.array([[one[measure] for measure in _MEASURES] for one in found])
    means: Array = weighted_means(np.ones((1, n_seeds)), values)[0]
    return means
