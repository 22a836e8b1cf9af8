"""Whether a comparison of metrics holds when the setup of the experiment varies.

Agostinelli et al., "How stable are Transferability Metrics evaluations?", ECCV 2022, section 4; here with fixed targets
or with fixed sources. A setup has three components: a group (one target), a pool of items (a subset of the sources
without the target's own dataset) and an evaluation measure. Its outcome is the ranking of the metrics by that measure.
The stability to one component follows the authors' released code: the Kendall tau-b of the outcomes of two setups that
differ in this component alone, averaged over all such pairs of setups with the other components fixed, and then over
all values of the others. It lies in [-1, 1]: 1 if all setups agree, 0 if rankings are random. Setups without an outcome
(constant scores, fewer than two items, all metrics equal) do not count, and controls are left out. Where scores tie for
the highest, Rel@1 is the mean over the ties, as everywhere in this package; the release takes the first.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation._compare import signs
from seg_transfer.evaluation._measures import MEASURES, Array, measures_of_all, pearson
from seg_transfer.evaluation._pairs import axes_of, in_scenario, metrics_of, validate_pairs, with_rank_mean
from seg_transfer.observations.ranks import shared_ranks

RELEASED_MEASURES = ("tau_w", "kendall", "pearson", "rel_at_1")
"""The evaluation measures of the authors' release, in its order."""

STABILITY_MEASURES = (*RELEASED_MEASURES, "top1", "spearman", "rel_at_3")
"""The measures of the release and three more. ``spearman`` is the correlation of ranks. ``rel_at_3`` is the best
performance among the three items with the highest scores (including all ties for third) divided by the best of all.
`measures` describes the others."""

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
    """Measure how stable the ranking of metrics is over experimental setups.

    A setup is a group (one target), a pool of items (a subset of the sources) and an evaluation measure; its outcome is
    the ranking of the metrics. The stability to one of the three is the mean Kendall tau-b, in [-1, 1], of the outcomes
    of setups that differ in it alone (Agostinelli et al., ECCV 2022, section 4).

    Args:
        pairs: One row per pair: source, target, miou, optionally n_target_classes, and a column per metric.
        scenario: "fixed_target" or "fixed_source": what groups are, and what items the pools consist of.
        metrics: As in `evaluate`.
        subset_sizes: Numbers of items in a pool, each 2 or more; the authors' release uses 90 %, 15 of 17.
        n_subsets: Number of pools of each size, drawn without repetition; if no more exist, all of them.
        names: Evaluation measures, some or all of `STABILITY_MEASURES`.
        seed: Seed of the draw of pools.

    Returns:
        For every size, a row for all metrics, "" as first and second, then one per unordered pair of metrics. Columns:

        * subset_size, n_subsets, first, second
        * stability_group, stability_items, stability_measure: for a pair of metrics, the stability of their order: the
          share of pairs of setups that agree minus the share of those that disagree
        * n_setups: number of setups with an outcome for both metrics (or for all metrics)
        * first_better, equal, second_better: shares of these setups in [0, 1]; NaN in the row for all metrics

    Raises:
        ResultsError: As in `evaluate`, there are fewer than two metrics, or a number of items or subsets is wrong.

    Example:
        >>> values = {"miou": [0.6, 0.4, 0.5], "gbc": [-1.0, -3.0, -2.0], "leep": [-3.0, -1.0, -2.0]}
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": ["t", "t", "t"], **values})
        >>> table = setup_stability(pairs, subset_sizes=[2])
        >>> table[["first", "second", "n_setups", "first_better"]].round(3).to_numpy().tolist()[1]
        ['gbc', 'leep', 21, 0.857]
    """
    frame, names_given = validate_pairs(pairs, metrics)
    metrics = metrics_of(in_scenario(frame, scenario, names_given))
    _check_choice(metrics, names)
    items = sorted(frame[axes_of(scenario)[1]].unique())
    pools = [_pools(items, size, n_subsets, seed) for size in subset_sizes]
    return pd.DataFrame([row for subsets in pools for row in _rows_of_size(frame, scenario, subsets, metrics, names)])


def _check_choice(metrics: Sequence[str], names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in STABILITY_MEASURES]:
        raise ResultsError(
            f"evaluation measure {unknown[0]!r} is unknown; choose among {', '.join(STABILITY_MEASURES)}"
        )
    if len(metrics) < 2:
        raise ResultsError(f"pairs: {len(metrics)} metric(s) to judge; give at least two to rank them")


def _pools(items: Sequence[str], size: int, n_subsets: int, seed: int) -> list[tuple[str, ...]]:
    """Draw different subsets of one size; they depend on the items, the size and the seed alone."""
    if not 2 <= size <= len(items):
        raise ResultsError(f"subset size is {size}; choose a number from 2 to {len(items)}, the number of items")
    if n_subsets < 1:
        raise ResultsError(f"n_subsets is {n_subsets}; choose 1 or more")
    if comb(len(items), size) <= n_subsets:
        return list(combinations(items, size))
    rng, pools = np.random.default_rng([seed, size]), dict[tuple[str, ...], None]()
    while len(pools) < n_subsets:
        chosen = np.sort(rng.choice(len(items), size, replace=False))
        pools[tuple(items[index] for index in chosen)] = None
    return list(pools)


def _rows_of_size(
    frame: pd.DataFrame,
    scenario: str,
    pools: Sequence[tuple[str, ...]],
    metrics: Sequence[str],
    names: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the result for pools of one size."""
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
    """Return measures (groups, pools, measures, metrics), NaN where nothing can be ordered."""
    outcomes = np.full((len(groups), len(parts), len(names), len(metrics)), np.nan)
    index = {group: position for position, group in enumerate(groups)}
    for pool, part in enumerate(parts):
        # The mean rank is recomputed in every pool, because ranks depend on the other items.
        for group, members in with_rank_mean(part, scenario).groupby(axes_of(scenario)[0]):
            if len(members) > 1:
                outcomes[index[str(group)], pool] = _measure_group(members, metrics, names)
    return outcomes


def _measure_group(members: pd.DataFrame, metrics: Sequence[str], names: Sequence[str]) -> Array:
    """Return the measures of one group, (measures, metrics)."""
    performance = members["miou"].to_numpy()
    scores = members[list(metrics)].to_numpy(dtype=np.float64).T
    values = dict(zip(MEASURES, measures_of_all(performance, scores).T, strict=True))
    varies, best = ~np.isnan(values["pearson"]), performance.max()
    values["spearman"] = np.full(len(scores), np.nan)
    if varies.any():
        values["spearman"][varies] = pearson(shared_ranks(performance), shared_ranks(scores[varies]))
    third = np.sort(scores, axis=1)[:, -3:][:, :1]
    of_three = np.where(scores >= third, performance, -np.inf).max(axis=1)
    values["rel_at_3"] = of_three / best if best > 0 else np.full(len(scores), np.nan)
    return np.array([values[name] for name in names])


def _rows(outcomes: Array, metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    every_two = list(combinations(range(len(metrics)), 2))
    order = np.stack([signs(outcomes[..., i] - outcomes[..., j]) for i, j in every_two], axis=-1)
    n_complete = int(np.count_nonzero(~np.isnan(order).any(axis=-1)))
    no_shares = dict.fromkeys(("first_better", "equal", "second_better"), np.nan)
    yield {"first": ALL, "second": ALL, **_stabilities(order), "n_setups": n_complete, **no_shares}
    for position, (i, j) in enumerate(every_two):
        pair_order = order[..., position]
        decided = pair_order[~np.isnan(pair_order)]
        values = [float(np.mean(decided == sign)) if len(decided) else np.nan for sign in (1, 0, -1)]
        shares = dict(zip(no_shares, values, strict=True))
        pair = {"first": metrics[i], "second": metrics[j]}
        yield {**pair, **_stabilities(pair_order[..., None]), "n_setups": len(decided), **shares}


def _stabilities(order: Array) -> dict[str, float]:
    """Compute the stability to each component from the signs of differences (groups, pools, measures, metric pairs)."""
    return {f"stability_{name}": _stability(np.moveaxis(order, axis, -2)) for axis, name in enumerate(_VARIED)}


def _stability(order: Array) -> float:
    """Average Kendall tau-b over all pairs of values of the varied component, then over everything else.

    tau-b of two outcomes is the cosine of their signs; the sum of all cosines follows from the sum of unit vectors.

    Args:
        order: Signs (..., varied component, pairs of metrics).
    """
    length = np.linalg.norm(order, axis=-1, keepdims=True)
    defined = length > 0  # False for NaN
    units = np.divide(order, length, out=np.zeros_like(order), where=defined)
    n = defined.sum(axis=(-2, -1))
    sums = (units.sum(axis=-2) ** 2).sum(axis=-1) - n
    taus = sums[n > 1] / (n * (n - 1))[n > 1]
    return float(taus.mean()) if taus.size else np.nan
