"""How noisy fine-tuning itself is: how mIoU and the ranking by mIoU vary with the seed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals, weighted_means
from seg_transfer.evaluation._measures import Array, measures
from seg_transfer.evaluation._pairs import SCENARIOS, SCRATCH, axes_of

_MEASURES = ("top1", "tau_w", "regret")
_FINE_TUNING = ("source", "target", "seed", "miou")
# Two-sided, at the 95 % level.
_NORMAL_QUANTILE = 1.96


def fine_tuning_noise(
    fine_tunings: pd.DataFrame,
    *,
    pairs: pd.DataFrame | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
    scenarios: Sequence[str] = SCENARIOS,
) -> pd.DataFrame:
    """Measure what seeds change, and how well one fine-tuning per pair would rank: one row per scenario.

    A metric that reaches this tau_w ranks as well as fine-tuning every pair once.

    Args:
        fine_tunings: One row per fine-tuning: source, target, seed, miou. Scratch is not ranked. Only the seeds that
            all other pairs have are used.
        pairs: Count only these, with the columns source and target, such as the pairs that `evaluate` gets: its
            ceiling then has the same numbers. None means all pairs that were fine-tuned.
        n_bootstrap: As in `evaluate`.
        seed: As in `evaluate`; equal seeds draw the same groups.
        scenarios: As in `evaluate`.

    Returns:
        No rows where the pairs share fewer than two seeds, or where no group has two items. Columns:

        * scenario, n_groups (with at least two items), n_seeds
        * sd: standard deviation of mIoU between seeds of a pair, pooled over pairs
        * fraction_distinguishable: share in [0, 1] of the rivals (any two items of a group) whose means over seeds
          differ by more than 1.96 standard errors of the difference; the variance between seeds is pooled over all
          pairs of a target
        * top1, tau_w, regret: measures of the ranking by one seed, compared with the mean of the other seeds; averaged
          over seeds and groups
        * NAME_low and NAME_high for each: the 95 % percentile-bootstrap interval over groups

    Raises:
        ResultsError: A column is missing, or a pair has a seed twice.

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
    by_seed = by_seed_of(fine_tunings, pairs)
    rows = _rows(by_seed, scenarios, n_bootstrap, seed) if by_seed.shape[1] > 1 else ()
    measured = [f"{measure}{suffix}" for measure in _MEASURES for suffix in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["scenario", "n_groups", "n_seeds", "sd", "fraction_distinguishable", *measured])


def chance_margins(fine_tunings: pd.DataFrame, pairs: pd.DataFrame | None = None) -> dict[str, float]:
    """Compute how far seeds alone can move the mean mIoU of two pairs of a target apart.

    Args:
        fine_tunings: As in `fine_tuning_noise`.
        pairs: As in `fine_tuning_noise`.

    Returns:
        Target -> 1.96 standard errors of the difference; empty where `fine_tuning_noise` has no rows.
    """
    by_seed = by_seed_of(fine_tunings, pairs)
    if by_seed.shape[1] < 2:
        return {}
    variances = _variances_of_means(by_seed).groupby(level="target").first()
    return {str(target): _NORMAL_QUANTILE * float(np.sqrt(2 * value)) for target, value in variances.items()}


def by_seed_of(fine_tunings: pd.DataFrame, pairs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one row per pair of source and target, and one column per seed that all of them have.

    Args:
        fine_tunings: As in `fine_tuning_noise`.
        pairs: The pairs to return, with the columns source and target; None means all. Scratch is left out.
    """
    missing = [name for name in _FINE_TUNING if name not in fine_tunings]
    if missing:
        columns = ", ".join(map(str, fine_tunings))
        raise ResultsError(f"fine_tunings: column {missing[0]!r} is missing (the columns are {columns}); add it")
    ranked = fine_tunings[fine_tunings["source"] != SCRATCH]
    twice = ranked[ranked.duplicated(["source", "target", "seed"])]
    if len(twice):
        first = twice.iloc[0]
        pair = f"pair {first['source']} -> {first['target']}"
        raise ResultsError(f"fine_tunings: {pair} has seed {first['seed']} twice; keep one row per pair and seed")
    by_seed = ranked.pivot(index=["source", "target"], columns="seed", values="miou")
    if pairs is not None:
        names = pairs.loc[pairs["source"] != SCRATCH, ["source", "target"]]
        by_seed = by_seed.reindex(pd.MultiIndex.from_frame(names))
    return by_seed.dropna(axis="columns")


def _variances_of_means(by_seed: pd.DataFrame) -> "pd.Series[float]":
    """Return the variance of every pair's mean over seeds, pooled over the pairs of its target.

    How much seeds scatter depends on a target's images and classes, and differs between targets far more than by
    chance.
    """
    variance = by_seed.var(axis="columns", ddof=1)
    return variance.groupby(level="target").transform("mean") / by_seed.shape[1]


def _rows(by_seed: pd.DataFrame, scenarios: Sequence[str], n_bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
    variances = _variances_of_means(by_seed)
    shared = {"n_seeds": by_seed.shape[1], "sd": float(np.sqrt(by_seed.var(axis="columns", ddof=1).mean()))}
    for scenario in scenarios:
        groups = groups_of(by_seed, scenario)
        if not groups:
            continue
        distinguishable = np.concatenate(
            [_distinguishable(group.mean(axis="columns"), variances[group.index]) for group in groups]
        )
        row: dict[str, Any] = {
            "scenario": scenario,
            "n_groups": len(groups),
            **shared,
            "fraction_distinguishable": distinguishable.mean(),
        }
        yield row | measures_of_one_seed(groups, bootstrap_draws(len(groups), n_bootstrap, seed))[1]


def groups_of(by_seed: pd.DataFrame, scenario: str) -> list[pd.DataFrame]:
    """Return the rows of every group with at least two items."""
    return [group for _, group in by_seed.groupby(level=axes_of(scenario)[0]) if len(group) > 1]


def measures_of_one_seed(groups: Sequence[pd.DataFrame], draws: Array) -> tuple[int, dict[str, float]]:
    """Average the measures of the ranking by one seed over groups.

    Args:
        groups: Groups from `groups_of`, each with at least two seeds.
        draws: How often each group is drawn, (draws, groups).

    Returns:
        The number of groups without a tau_w; then NAME, NAME_low and NAME_high of the three measures.
    """
    values = np.array([_one_seed_against_the_others(group.to_numpy(np.float64)) for group in groups])
    means = weighted_means(np.ones((1, len(groups))), values)[0]
    low, high = percentile_intervals(weighted_means(draws, values))
    found: dict[str, float] = {}
    for column, name in enumerate(_MEASURES):
        found |= {name: means[column], f"{name}_low": low[column], f"{name}_high": high[column]}
    return int(np.isnan(values[:, _MEASURES.index("tau_w")]).sum()), found


def _distinguishable(means: "pd.Series[float]", variances: "pd.Series[float]") -> npt.NDArray[np.bool_]:
    """Return, for every two items, whether their means over seeds differ by more than chance."""
    value, variance = means.to_numpy(), variances.to_numpy()
    first, second = np.triu_indices(len(value), 1)
    errors = np.sqrt(variance[first] + variance[second])
    differ: npt.NDArray[np.bool_] = np.abs(value[first] - value[second]) > _NORMAL_QUANTILE * errors
    return differ


def _one_seed_against_the_others(group: Array) -> Array:
    """Compare each seed's ranking with the mean of the other seeds, and average the measures over seeds.

    Args:
        group: (items, seeds) mIoU.
    """
    n_seeds = group.shape[1]
    others = (group.sum(axis=1, keepdims=True) - group) / (n_seeds - 1)
    by_seed = [measures(others[:, seed], group[:, seed]) for seed in range(n_seeds)]
    values = np.array([[measured[measure] for measure in _MEASURES] for measured in by_seed])
    means: Array = weighted_means(np.ones((1, n_seeds)), values)[0]
    return means
