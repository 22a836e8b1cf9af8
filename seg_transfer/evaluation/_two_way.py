"""A bank of several families of networks: rankings of all of them and within each, as other banks and targets vary."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation._measures import Array, weighted_tau
from seg_transfer.observations.ranks import shared_ranks

ACROSS, WITHIN = "across", "within"
TWO_WAY_MEASURES = ("top1", "tau_w", "regret")
CHANCE = "random"

Bank = np.ndarray[tuple[int], np.dtype[np.bool_]]


def two_way_draws(
    pairs: pd.DataFrame, metrics: Mapping[str, Sequence[str]], *, n_draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Evaluate how well scores rank the networks of a bank, with all in one list and with a list per family.

    Targets are drawn with replacement, and networks with replacement within their family: what other targets, and
    another bank of the same families, might have shown. A network that is drawn twice stands in a list once.

    Args:
        pairs: One row per pair: source, target, family, miou, and columns of scores, higher is better.
        metrics: Name -> one column of scores, or several, whose mean rank in the list decides.
        n_draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        One row per draw, the first with the bank as it is. Columns (part, metric, measure): part is "across" or
        "within", the metric "random" is what chance gives on average, and the measures are top1, tau_w and regret,
        means over targets, or over targets and families. Lists with fewer than two networks do not count; NaN where
        none is left.

    Raises:
        ResultsError: A pair is given twice, or a network has two families.

    Example:
        >>> pairs = pd.DataFrame({"source": ["a", "b", "c"], "target": "t", "family": ["x", "x", "y"],
        ...     "miou": [0.6, 0.5, 0.7], "gbc": [-1.0, -2.0, -3.0]})
        >>> draws = two_way_draws(pairs, {"gbc": ["gbc"]}, n_draws=10)
        >>> draws.loc[0, "across"].loc["gbc"].round(9).to_dict()
        {'top1': 0.0, 'tau_w': -0.363636364, 'regret': 0.1}
    """
    if pairs.duplicated(["source", "target"]).any():
        raise ResultsError("pairs: a pair is given twice; keep one row of each")
    family = pairs.groupby("source")["family"].unique()
    if (family.str.len() > 1).any():
        raise ResultsError(f"pairs: source {family.index[family.str.len() > 1][0]} has two families; name one")
    table = pairs.set_index(["target", "source"]).unstack()
    miou = table["miou"].to_numpy(np.float64)
    scores = {name: np.stack([table[column].to_numpy(np.float64) for column in metrics[name]]) for name in metrics}
    families = family[table["miou"].columns].str[0].to_numpy()
    banks, weights = _drawn(families, len(miou), n_draws, seed)
    rows = [_means(miou, scores, families, bank, weight) for bank, weight in zip(banks, weights, strict=True)]
    columns = pd.MultiIndex.from_product([(ACROSS, WITHIN), [*metrics, CHANCE], TWO_WAY_MEASURES])
    return pd.DataFrame(np.stack(rows), columns=columns)


def two_way_interval(draws: "pd.Series[float]") -> tuple[float, float, float]:
    """Return the value for the bank as it is, and its 95 % interval: the 2.5 and 97.5 percentiles of all other rows.

    Args:
        draws: A column of `two_way_draws`, or the difference of two.

    Returns:
        Value, low, high. Rows of NaN do not count; the interval is NaN where no other is left.

    Example:
        >>> two_way_interval(pd.Series([0.5, 0.0, 1.0]))
        (0.5, 0.025, 0.975)
    """
    known = draws.iloc[1:].dropna()
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (np.nan, np.nan)
    return float(draws.iloc[0]), float(low), float(high)


def _drawn(families: np.ndarray, n_targets: int, n_draws: int, seed: int) -> tuple[list[Bank], Array]:
    """Return the networks (S,) in every draw, and how often each target is drawn (draws, T); all of them first."""
    rng = np.random.default_rng(seed)
    banks = [np.ones(len(families), bool)]
    for _ in range(n_draws):
        bank = np.zeros(len(families), bool)
        for family in np.unique(families):
            own = np.flatnonzero(families == family)
            bank[rng.choice(own, len(own))] = True
        banks.append(bank)
    weights = rng.multinomial(n_targets, np.full(n_targets, 1 / n_targets), size=n_draws)
    return banks, np.concatenate([np.ones((1, n_targets)), weights])


def _means(miou: Array, scores: Mapping[str, Array], families: np.ndarray, bank: Bank, weights: Array) -> Array:
    """Average over the drawn targets: (2 parts x metrics and chance x 3 measures), flat."""
    lists_of = {ACROSS: [bank], WITHIN: [bank & (families == family) for family in np.unique(families)]}
    means = []
    for part in (ACROSS, WITHIN):
        sums, total = np.zeros((len(scores) + 1, len(TWO_WAY_MEASURES))), np.zeros((len(scores) + 1, 3))
        for target, networks in product(np.flatnonzero(weights), lists_of[part]):
            listed = networks & ~np.isnan(miou[target])
            if listed.sum() > 1:
                found = np.array(
                    list(_of_list(miou[target, listed], {n: s[:, target, listed] for n, s in scores.items()}))
                )
                known = ~np.isnan(found)
                sums += weights[target] * np.where(known, found, 0)
                total += weights[target] * known
        means.append(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))
    return np.concatenate(means).ravel()


def _of_list(miou: Array, scores: Mapping[str, Array]) -> Iterator[tuple[float, float, float]]:
    """Yield top1, tau_w and regret of every metric, and of chance, on one list of networks."""
    best, is_constant = miou.max(), miou.min() == miou.max()
    for parts in scores.values():
        score = parts[0] if len(parts) == 1 else shared_ranks(parts).mean(axis=0)
        chosen = miou[score == score.max()]
        constant = is_constant or score.min() == score.max()
        tau_w = np.nan if constant else weighted_tau(miou, score)
        yield float(np.mean(chosen == best)), tau_w, float(best - chosen.mean())
    yield float(np.mean(miou == best)), 0.0, float(best - miou.mean())
