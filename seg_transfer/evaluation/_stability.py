"""Whether the verdict on metrics holds when the set-up of the experiment varies.

Agostinelli et al., "How stable are Transferability Metrics evaluations?", ECCV 2022, section 4; here with fixed targets
or with fixed sources. A set-up has three components: a group (one target), a pool of items (a subset of the sources;
the target's own dataset drops out of it) and an evaluation measure. Its outcome is the ranking of the metrics by that
measure. The stability to one component follows the authors' released code: the Kendall tau-b of the outcomes of two
set-ups that differ in this component alone, averaged over all such two set-ups with the others fixed, and then over
what the others can be. It lies in [-1, 1]: 1 where the verdict is always the same, 0 where rankings are as at random.
Set-ups without an outcome (constant scores, fewer than two items, all metrics equal) do not count, and controls take no
part. Where scores tie for the highest, Rel@1 is the mean over the tied ones, as everywhere here; the release takes the
first.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation._compare import signs
from seg_transfer.evaluation._measures import Array, measures
from seg_transfer.evaluation._pairs import axes_of, validate_pairs, with_rank_mean

RELEASED_MEASURES = ("tau_w", "kendall", "pearson", "rel_at_1")
"""The evaluation measures of the authors' release, in its order."""

STABILITY_MEASURES = (*RELEASED_MEASURES, "top1", "spearman", "rel_at_3")
"""Those of the release and three more. ``spearman`` is the correlation of ranks; ``rel_at_3`` the best performance of
the three highest-scored items (all that tie for the third place count) over the best one; `measures` has the others."""

ALL = ""

_VARIED = ("group", "items", "measure")


def setup_stability(
    pairs: pd.DataFrame,
    *,
    scenario: str = "fixed_target",
    metrics: Sequence[str] | None = None,
    subset_sizes: Sequence[int],
    n_subsets: int = 100,
    names: Sequence[str] = STABILITY_MEASURES,
    seed: int = 0,
) -> pd.DataFrame:
    """Stability of the ranking of metrics over experimental set-ups.

    A set-up is a group (one target), a pool of items (a subset of the sources) and an evaluation measure; its outcome
    is the ranking of the metrics. The stability to one of the three is the mean Kendall tau-b, in [-1, 1], of the
    outcomes of set-ups that differ in it alone (Agostinelli et al., ECCV 2022, section 4).

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        scenario: Its groups, and the items that pools consist of.
        metrics: As in `evaluate`.
        subset_sizes: Numbers of items in a pool, each in 2 .. all items; the authors' release has 90 %, 15 of 17.
        n_subsets: Pools of each size, drawn without repetition; where no more than these exist, all of them.
        names: Evaluation measures, of `STABILITY_MEASURES`.
        seed: Of the draw of pools.

    Returns:
        For every size one row over all metrics, whose first and second are "", then one per unordered pair. Columns:

        * subset_size, n_subsets, first, second
        * stability_group, stability_items, stability_measure: of a pair of metrics that of their order alone, the share
          of two set-ups that agree minus that of those that do not
        * n_setups: set-ups with an outcome for both metrics (for all metrics)
        * first_better, equal, second_better: shares of these set-ups in [0, 1]; NaN in the row over all

    Raises:
        ResultsError: As in `evaluate`, or fewer than two metrics, or a size or number of subsets outside its range.

    Example:
        >>> values = {"miou": [0.6, 0.4, 0.5], "gbc": [-1.0, -3.0, -2.0], "leep": [-3.0, -1.0, -2.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t", "t", "t"], **values})
        >>> table = setup_stability(pairs, subset_sizes=[2])
        >>> table[["first", "second", "n_setups", "first_better"]].round(3).to_numpy().tolist()[1]
        ['gbc', 'leep', 21, 0.857]
    """
    frame, metrics = validate_pairs(pairs, metrics)
    items = sorted(frame[axes_of(scenario)[1]].unique())
    _check_choice(metrics, names)
    pools = [_pools(items, size, n_subsets, seed) for size in subset_sizes]
    return pd.DataFrame([row for one in pools for row in _rows_of_size(frame, scenario, one, metrics, names)])


def _check_choice(metrics: Sequence[str], names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in STABILITY_MEASURES]:
        raise ResultsError(
            f"evaluation measure {unknown[0]!r} is unknown; choose among {', '.join(STABILITY_MEASURES)}"
        )
    if len(metrics) < 2:
        raise ResultsError(f"pairs: {len(metrics)} metric(s) to judge; a ranking of metrics needs two or more")


def _pools(items: Sequence[str], size: int, n_subsets: int, seed: int) -> list[tuple[str, ...]]:
    """Different subsets of one size; which ones depends on the items, the size and the seed alone."""
    if not 2 <= size <= len(items):
        raise ResultsError(
            f"subset size {size}: a pool has 2 items or more, and {len(items)} are there; choose another"
        )
    if n_subsets < 1:
        raise ResultsError(f"n_subsets is {n_subsets}; draw 1 or more")
    if comb(len(items), size) <= n_subsets:
        return list(combinations(items, size))
    rng, found = np.random.default_rng([seed, size]), dict[tuple[str, ...], None]()
    while len(found) < n_subsets:
        places = np.sort(rng.choice(len(items), size, replace=False))
        found[tuple(items[place] for place in places)] = None
    return list(found)


def _rows_of_size(
    frame: pd.DataFrame,
    scenario: str,
    pools: Sequence[tuple[str, ...]],
    metrics: Sequence[str],
    names: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """The rows of the result for pools of one size."""
    group, item = axes_of(scenario)
    parts = [frame[frame[item].isin(pool)].reset_index(drop=True) for pool in pools]
    outcomes = _outcomes(parts, scenario, sorted(frame[group].unique()), metrics, names)
    for row in _rows(outcomes, metrics):
        yield {"subset_size": len(pools[0]), "n_subsets": len(pools), **row}


def _outcomes(
    parts: Sequence[pd.DataFrame],
    scenario: str,
    groups: Sequence[str],
    metrics: Sequence[str],
    names: Sequence[str],
) -> Array:
    """(groups, pools, measures, metrics), NaN where nothing is ordered."""
    outcomes = np.full((len(groups), len(parts), len(names), len(metrics)), np.nan)
    number = {group: place for place, group in enumerate(groups)}
    for pool, part in enumerate(parts):
        # Recomputed in every pool: ranks depend on the other items.
        for group, members in with_rank_mean(part, scenario).groupby(axes_of(scenario)[0]):
            if len(members) > 1:
                outcomes[number[str(group)], pool] = _measured(members, metrics, names)
    return outcomes


def _measured(members: pd.DataFrame, metrics: Sequence[str], names: Sequence[str]) -> Array:
    """(measures, metrics) of one group."""
    performance = members["miou"].to_numpy()
    found = [_all_measures(performance, members[metric].to_numpy()) for metric in metrics]
    return np.array([[of_metric[name] for of_metric in found] for name in names])


def _all_measures(performance: Array, score: Array) -> dict[str, float]:
    ranks = measures(rankdata(performance), rankdata(score))
    best, third = performance.max(), np.sort(score)[-3:][0]
    rel_at_3 = float(performance[score >= third].max() / best) if best > 0 else np.nan
    return {**measures(performance, score), "spearman": ranks["pearson"], "rel_at_3": rel_at_3}


def _rows(outcomes: Array, metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    every_two = list(combinations(range(len(metrics)), 2))
    order = np.stack([signs(outcomes[..., i] - outcomes[..., j]) for i, j in every_two], axis=-1)
    n_whole = int(np.count_nonzero(~np.isnan(order).any(axis=-1)))
    nothing = dict.fromkeys(("first_better", "equal", "second_better"), np.nan)
    yield {"first": ALL, "second": ALL, **_stabilities(order), "n_setups": n_whole, **nothing}
    for place, (i, j) in enumerate(every_two):
        of_two = order[..., place]
        decided = of_two[~np.isnan(of_two)]
        shares = [float(np.mean(decided == sign)) if len(decided) else np.nan for sign in (1, 0, -1)]
        named = dict(zip(nothing, shares, strict=True))
        both = {"first": metrics[i], "second": metrics[j]}
        yield {**both, **_stabilities(of_two[..., None]), "n_setups": len(decided), **named}


def _stabilities(order: Array) -> dict[str, float]:
    """The stability to each component, from the signs (groups, pools, measures, pairs of metrics) of differences."""
    return {f"stability_{name}": _stability(np.moveaxis(order, axis, -2)) for axis, name in enumerate(_VARIED)}


def _stability(order: Array) -> float:
    """Signs (..., varied, pairs of metrics) -> the mean Kendall tau-b of two of the varied, then over all else.

    tau-b of two outcomes is the cosine of their signs; the sum of all cosines follows from the sum of unit vectors.
    """
    length = np.linalg.norm(order, axis=-1, keepdims=True)
    defined = length > 0  # NaN is not
    units = np.divide(order, length, out=np.zeros_like(order), where=defined)
    n = defined.sum(axis=(-2, -1))
    sums = (units.sum(axis=-2) ** 2).sum(axis=-1) - n
    taus = sums[n > 1] / (n * (n - 1))[n > 1]
    return float(taus.mean()) if taus.size else np.nan
