"""Stability of verdicts over setups: against the definition written as loops, and verdicts that are planted."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from scipy.stats import kendalltau, spearmanr

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import RELEASED_MEASURES, STABILITY_MEASURES, measures, setup_stability
from seg_transfer.store.published import load_published

setup_stability = on_all_columns(setup_stability)

METRICS = ["gbc", "leep", "hscore"]


@pytest.fixture(scope="module")
def few():
    """Seven of the published datasets: correlated, unbalanced, with hard targets and easy ones."""
    names = ["ade20k", "bdd", "camvid", "cityscapes", "coco", "isprs", "suim"]
    pairs = load_published()
    pairs = pairs[pairs["source"].isin(names) & pairs["target"].isin(names)]
    return pairs[["source", "target", "miou", *METRICS]].reset_index(drop=True)


def slow_outcomes(pairs, pools, axes, metrics):
    """(group, pool, measure) -> the measures of all metrics."""
    outcomes = {}
    for group, members in pairs.groupby(axes[0]):
        for pool in pools:
            inside = members[members[axes[1]].isin(pool)]
            found = [slow_measures(inside["miou"].to_numpy(), inside[metric].to_numpy()) for metric in metrics]
            for name in STABILITY_MEASURES:
                outcomes[group, pool, name] = [one[name] for one in found]
    return outcomes


def slow_measures(performance, score):
    three = np.argsort(-score)[:3]  # no scores tie here
    more = {"spearman": spearmanr(performance, score).statistic, "rel_at_3": max(performance[three]) / max(performance)}
    return {**measures(performance, score), **more}


def slow_stability(outcomes, axis):
    """Kendall tau of every two outcomes that differ in one component, averaged with the others fixed, then over all."""
    fixed = {}
    for setup, outcome in outcomes.items():
        fixed.setdefault((*setup[:axis], *setup[axis + 1 :]), []).append(outcome)
    means = []
    for of_one in fixed.values():
        taus = [kendalltau(a, b).statistic for a, b in combinations(of_one, 2)]
        means.append(np.nanmean(taus) if np.isfinite(taus).any() else np.nan)
    return np.nanmean(means)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("axes", [("target", "source"), ("source", "target")])
def test_is_the_definition_written_as_loops(few, axes):
    pools = list(combinations(sorted(few["source"].unique()), 6))
    frame = setup_stability(few, scenario=f"fixed_{axes[0]}", subset_sizes=[6], n_subsets=7)
    assert set(frame["n_subsets"]) == {len(pools)}
    for row, metrics in zip(range(4), [METRICS, *map(list, combinations(METRICS, 2))], strict=True):
        outcomes = slow_outcomes(few, pools, axes, metrics)
        found = frame.iloc[row]
        assert [found["first"], found["second"]] == (["", ""] if row == 0 else metrics)
        for axis, name in enumerate(("group", "items", "measure")):
            assert found[f"stability_{name}"] == pytest.approx(slow_stability(outcomes, axis), abs=1e-12)
        assert found["n_setups"] == len(outcomes) == 7 * 7 * 7
        if row > 0:
            ahead = np.sign([np.round(a - b, 12) for a, b in outcomes.values()])
            shares = [np.mean(ahead == sign) for sign in (1, 0, -1)]
            assert found[["first_better", "equal", "second_better"]].tolist() == pytest.approx(shares)


def test_a_metric_that_is_always_better_is_perfectly_stable(few):
    pairs = few[["source", "target", "miou"]].assign(oracle=few["miou"], worst=-few["miou"])
    over_all, pair = setup_stability(pairs, subset_sizes=[4], n_subsets=9, names=RELEASED_MEASURES).to_dict("records")
    for row in (over_all, pair):
        assert [row[f"stability_{name}"] for name in ("group", "items", "measure")] == pytest.approx([1, 1, 1])
    assert (pair["first_better"], pair["equal"], pair["second_better"]) == (1, 0, 0)


def test_a_verdict_that_rests_on_the_group_is_unstable_in_this_alone(few):
    """Right on half of the targets, wrong on the others, the same in every pool and by every measure."""
    right = few["target"].isin(sorted(few["target"].unique())[:4])
    pairs = few[["source", "target", "miou"]].assign(
        first=few["miou"].where(right, -few["miou"]), second=few["miou"].where(~right, -few["miou"])
    )
    row = setup_stability(pairs, subset_sizes=[5], n_subsets=6).iloc[1]
    agree, disagree = 6 + 3, 4 * 3  # of 21 twos of 4 + 3 targets
    assert row["stability_group"] == pytest.approx((agree - disagree) / 21)
    assert row[["stability_items", "stability_measure"]].tolist() == pytest.approx([1, 1])
    assert row["first_better"] == pytest.approx(4 / 7)


def test_scores_at_random_have_no_stable_verdict():
    rng = np.random.default_rng(0)
    names = [f"d{i:02}" for i in range(14)]
    pairs = pd.DataFrame([(s, t) for s, t in product(names, repeat=2) if s != t], columns=["source", "target"])
    pairs = pairs.assign(miou=rng.random(len(pairs)), **{f"m{i}": rng.random(len(pairs)) for i in range(4)})
    row = setup_stability(pairs, subset_sizes=[9], n_subsets=8).iloc[0]
    assert row["stability_group"] == pytest.approx(0, abs=0.1)
    assert row["stability_items"] > 0.2  # pools share items


def test_pools_are_seeded_different_and_independent_of_the_other_sizes(few):
    options = {"subset_sizes": [3, 5], "n_subsets": 6}
    frame = setup_stability(few, **options, seed=1)
    pd.testing.assert_frame_equal(frame, setup_stability(few.sample(frac=1, random_state=0), **options, seed=1))
    alone = setup_stability(few, subset_sizes=[5], n_subsets=6, seed=1)
    pd.testing.assert_frame_equal(frame[frame["subset_size"] == 5].reset_index(drop=True), alone)
    assert not frame.equals(setup_stability(few, **options, seed=2))
    assert set(frame["n_subsets"]) == {6}


def test_the_rank_mean_is_recomputed_in_every_pool(few):
    pairs = load_published()[["source", "target", "miou", "gbc", "logme"]]
    pairs = pairs.merge(few[["source", "target"]])
    pool = ("ade20k", "bdd", "camvid", "suim")
    inside = pairs[pairs["source"].isin(pool)]
    by_hand = [
        pd.Series(-(m["gbc"].rank(ascending=False) + m["logme"].rank(ascending=False)) / 2, m.index)
        for _, m in inside.groupby("target")
    ]
    own = inside.assign(rank_mean=pd.concat(by_hand))
    expected = setup_stability(own, subset_sizes=[4])
    pd.testing.assert_frame_equal(setup_stability(inside, subset_sizes=[4]), expected)
    assert "rank_mean" in set(expected["second"])


def test_setups_without_an_outcome_do_not_count(few):
    flat = few.assign(gbc=few["gbc"].where(few["target"] != "coco", 1.0))
    frame = setup_stability(flat, subset_sizes=[7], n_subsets=1, names=RELEASED_MEASURES).set_index(["first", "second"])
    # Rel@1 is defined for constant scores too.
    assert frame["n_setups"].to_dict() == {
        ("", ""): 25,
        ("gbc", "leep"): 25,
        ("gbc", "hscore"): 25,
        ("leep", "hscore"): 28,
    }
    assert np.isnan(frame["stability_items"]).all()  # one pool


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset_sizes": [1]}, "subset size is 1; choose a number from 2 to 7"),
        ({"subset_sizes": [8]}, "subset size is 8"),
        ({"subset_sizes": [3], "n_subsets": 0}, "n_subsets is 0"),
        ({"subset_sizes": [3], "scenario": "fixed_moon"}, "'fixed_moon' is unknown"),
    ],
)
def test_refusals(few, options, message):
    with pytest.raises(ResultsError, match=message):
        setup_stability(few, **options)


def test_one_metric_has_no_rival(few):
    with pytest.raises(ResultsError, match="1 metric"):
        setup_stability(few[["source", "target", "miou", "gbc"]], subset_sizes=[3])


def test_an_unknown_measure_is_refused(few):
    with pytest.raises(ResultsError, match="evaluation measure 'tau' is unknown; choose among tau_w"):
        setup_stability(few, subset_sizes=[3], names=["tau"])
