"""Banks of several families: measures against `measures` on every list, draws against a slow reference."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import measures, two_way_draws, two_way_interval

FAMILIES = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b", "c1": "c"}
METRICS = {"gbc": ["gbc"], "default": ["gbc", "logme"]}
MEASURES = ("top1", "tau_w", "regret")


@pytest.fixture
def pairs() -> pd.DataFrame:
    """Six networks of three families on four targets, but for two pairs."""
    rng = np.random.default_rng(1)
    rows = [
        (source, target)
        for target in "wxyz"
        for source in FAMILIES
        if (source, target) not in {("a1", "w"), ("b2", "x")}
    ]
    frame = pd.DataFrame(rows, columns=["source", "target"])
    frame["family"] = frame["source"].map(FAMILIES)
    for column in ("miou", "gbc", "logme"):
        frame[column] = rng.random(len(frame))
    return frame


def means(pairs: pd.DataFrame, metric: str, lists: list[list[str]]) -> dict[str, float]:
    """Over lists of rows."""
    found: list[dict[str, Any]] = []
    for one in lists:
        rows = pairs.loc[one]
        if len(rows) > 1:
            scores = rows[METRICS[metric]].to_numpy().T
            score = scores[0] if len(scores) == 1 else np.mean([rankdata(part) for part in scores], axis=0)
            found.append(measures(rows["miou"].to_numpy(), score))
    return {measure: float(np.nanmean([one[measure] for one in found])) for measure in MEASURES}


@pytest.mark.parametrize("metric", METRICS)
def test_the_bank_as_it_is_has_the_means_over_all_lists(pairs, metric) -> None:
    first = two_way_draws(pairs, METRICS, n_draws=1).iloc[0]
    for part, by in (("across", ["target"]), ("within", ["target", "family"])):
        lists = [list(rows.index) for _, rows in pairs.groupby(by)]
        for measure, value in means(pairs, metric, lists).items():
            assert first[part, metric, measure] == pytest.approx(value, abs=1e-12), (part, measure)


def test_chance_is_the_mean_over_all_choices(pairs) -> None:
    first = two_way_draws(pairs, METRICS, n_draws=1).iloc[0]
    lists = [rows["miou"] for _, rows in pairs.groupby("target")]
    assert first["across", "random", "regret"] == pytest.approx(np.mean([one.max() - one.mean() for one in lists]))
    assert first["across", "random", "top1"] == pytest.approx(np.mean([1 / len(one) for one in lists]))
    assert first["across", "random", "tau_w"] == 0


def test_a_draw_is_a_bank_of_some_networks_and_a_weight_per_target(pairs) -> None:
    """Every draw across families is the mean of some four targets over some networks of every family."""
    possible = set()
    subsets = [np.array(rows) for rows in np.ndindex(*(2,) * len(FAMILIES))]
    kept = [set(np.array(list(FAMILIES))[subset.astype(bool)]) for subset in subsets]
    banks = [bank for bank in kept if {FAMILIES[name] for name in bank} == {"a", "b", "c"}]
    for bank in banks:
        rows = pairs[pairs["source"].isin(bank)]
        regrets = [rows.loc[group, "miou"].max() - rows.loc[rows.loc[group, "gbc"].idxmax(), "miou"]
                   for group in rows.groupby("target").groups.values()]  # fmt: skip
        for weights in np.ndindex(*(5,) * 4):
            if sum(weights) == 4:
                possible.add(round(float(np.dot(weights, regrets)) / 4, 9))
    draws = two_way_draws(pairs, METRICS, n_draws=200)["across", "gbc", "regret"]
    assert {round(draw, 9) for draw in draws} <= possible
    assert draws.nunique() > 50


def test_draws_depend_on_the_seed_alone_and_not_on_the_order_of_rows(pairs) -> None:
    first = two_way_draws(pairs, METRICS, n_draws=20)
    pd.testing.assert_frame_equal(first, two_way_draws(pairs.sample(frac=1, random_state=2), METRICS, n_draws=20))
    assert not first.equals(two_way_draws(pairs, METRICS, n_draws=20, seed=1))


def test_a_perfect_score_has_no_regret_in_any_draw(pairs) -> None:
    draws = two_way_draws(pairs.assign(gbc=pairs["miou"]), METRICS, n_draws=50)
    assert draws["across", "gbc", "regret"].max() == draws["within", "gbc", "regret"].max() == 0
    assert two_way_interval(draws["across", "gbc", "top1"]) == (1, 1, 1)


def test_wrong_pairs_are_refused(pairs) -> None:
    with pytest.raises(ResultsError, match="a pair is given twice"):
        two_way_draws(pd.concat([pairs, pairs[:1]]), METRICS)
    pairs.loc[0, "family"] = "d"
    with pytest.raises(ResultsError, match="source a2 has two families"):
        two_way_draws(pairs, METRICS)


def test_rows_without_a_value_do_not_count_in_an_interval() -> None:
    assert two_way_interval(pd.Series([0.5, np.nan, 0.0, 1.0])) == (0.5, 0.025, 0.975)
    assert np.isnan(two_way_interval(pd.Series([np.nan, np.nan]))).all()
