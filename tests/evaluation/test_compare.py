"""Two metrics on the same groups, by hand, against a plain bootstrap, and on the published pairs."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import pairs_of

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import MEASURES, compare_metrics, evaluate, evaluate_groups
from seg_transfer.store.published import load_published

compare_metrics = on_all_columns(compare_metrics)
evaluate = on_all_columns(evaluate)
evaluate_groups = on_all_columns(evaluate_groups)


@pytest.fixture(scope="module")
def published():
    return load_published()


def swap(frame):
    """The rows of the other order."""
    mirrored = {"difference_low": -frame["difference_high"], "difference_high": -frame["difference_low"]}
    return frame.assign(
        first=frame["second"],
        second=frame["first"],
        wins=frame["losses"],
        losses=frame["wins"],
        mean_difference=-frame["mean_difference"],
        share_first_better=1 - frame["share_first_better"],
        **mirrored,
    )


def row(frame, first, second):
    return frame[(frame["first"] == first) & (frame["second"] == second)].iloc[0]


def test_every_two_metrics_have_one_row_in_the_order_of_columns(published):
    frame = compare_metrics(published, scenario="fixed_target", n_bootstrap=2)
    names = ["gbc", "leep", "nleep", "logme", "hscore", "rank_mean", "mean_rank_elsewhere", "random"]
    expected = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    assert list(zip(frame["first"], frame["second"], strict=True)) == expected
    assert set(frame["measure"]) == {"tau_w"}
    assert (frame["wins"] + frame["ties"] + frame["losses"] == frame["n_groups"]).all()
    assert set(frame["n_groups"]) == {17}


@pytest.mark.parametrize("measure", MEASURES)
def test_counts_and_means_are_those_of_the_groups(published, measure):
    scenario = "fixed_source"
    groups = evaluate_groups(published, scenarios=[scenario])
    table = groups.pivot(index="group", columns="metric", values=measure)
    frame = compare_metrics(published, scenario=scenario, measure=measure, n_bootstrap=2)
    for _, found in frame.iterrows():
        difference = (table[found["first"]] - table[found["second"]]).round(12)
        counts = [(difference > 0).sum(), (difference == 0).sum(), (difference < 0).sum()]
        lower_is_better = measure == "regret"
        assert found[["wins", "ties", "losses"]].tolist() == (counts[::-1] if lower_is_better else counts)
        assert found["mean_difference"] == pytest.approx(difference.mean(), abs=1e-11)


def test_the_metric_of_the_lower_regret_wins():
    # Regrets on d0, d1, d2: near 0, 0.1, 0; far, whose scores are all equal, 0.15, 0.05, 0.1.
    miou = [[0, 0.5, 0.6], [0.3, 0, 0.4], [0.6, 0.4, 0]]
    near = [[0, 1.0, 2.0], [1.0, 0, 1.5], [2.0, 2.0, 0]]
    pairs = pairs_of(miou, near=near, far=np.zeros((3, 3))).assign(oracle=lambda p: p["miou"])
    frame = compare_metrics(pairs, scenario="fixed_target", measure="regret")
    found = row(frame, "near", "far")
    assert found[["wins", "ties", "losses"]].tolist() == [2, 0, 1]
    assert found["mean_difference"] == pytest.approx((0 + 0.1 + 0) / 3 - (0.15 + 0.05 + 0.1) / 3)
    # Near loses where d1 is drawn three times, and ties with d1, d1, d2: 1 and 3 of 27 draws.
    assert found["share_first_better"] == pytest.approx(1 - 1 / 27 - 3 / 27 / 2, abs=0.03)
    best = row(frame, "far", "oracle")
    assert (best["wins"], best["losses"], best["share_first_better"]) == (0, 3, 0)


def test_known_published_comparisons(published):
    frame = compare_metrics(published, scenario="fixed_target")
    gbc = row(frame, "gbc", "logme")
    assert (gbc["wins"], gbc["ties"], gbc["losses"]) == (5, 0, 12)
    assert gbc["mean_difference"] == pytest.approx(0.593 - 0.638, abs=0.001)
    assert gbc["difference_low"] < 0 < gbc["difference_high"]  # nearly, but not quite, a difference
    leep = row(frame, "gbc", "leep")
    assert leep["difference_low"] > 0  # paired; their own intervals overlap widely
    means = evaluate(published, scenarios=["fixed_target"]).set_index("metric")
    assert means.loc["leep", "tau_w_high"] > means.loc["gbc", "tau_w_low"]


def test_the_interval_is_that_of_a_plain_paired_bootstrap(published):
    groups = evaluate_groups(published, scenarios=["fixed_target"]).pivot(
        index="group", columns="metric", values="tau_w"
    )
    difference = (groups["nleep"] - groups["hscore"]).to_numpy()
    rng = np.random.default_rng(5)
    means = np.array([rng.choice(difference, 17).mean() for _ in range(20_000)])
    low, high = np.percentile(means, [2.5, 97.5])
    found = row(compare_metrics(published, scenario="fixed_target", n_bootstrap=20_000), "nleep", "hscore")
    within = 0.03 * (high - low)
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((low, high), abs=within)
    assert found["share_first_better"] == pytest.approx(np.mean(means > 0), abs=0.005)


def test_draws_are_those_of_evaluate(published):
    """Against a metric that is nowhere different from 0, the interval is that of the mean."""
    frame = compare_metrics(published, scenario="fixed_target", seed=4)
    means = evaluate(published, scenarios=["fixed_target"], seed=4).set_index("metric")
    found = row(frame, "gbc", "random")
    assert found["difference_low"] == pytest.approx(means.loc["gbc", "tau_w_low"], abs=1e-13)
    assert found["difference_high"] == pytest.approx(means.loc["gbc", "tau_w_high"], abs=1e-13)
    pd.testing.assert_frame_equal(frame, compare_metrics(published.sample(frac=1), scenario="fixed_target", seed=4))
    assert not frame.equals(compare_metrics(published, scenario="fixed_target", seed=5))


def test_the_other_order_is_the_mirror_image(published):
    pairs = published[["source", "target", "miou", "gbc", "leep"]]
    turned = published[["source", "target", "miou", "leep", "gbc"]]
    there, back = (compare_metrics(one, scenario="fixed_target").iloc[:1] for one in (pairs, turned))
    pd.testing.assert_frame_equal(swap(there), back)


def test_equal_metrics_tie_everywhere_and_share_the_draws(published):
    pairs = published[["source", "target", "miou", "gbc"]].assign(twin=lambda p: 3 * p["gbc"] + 1)
    found = compare_metrics(pairs, scenario="fixed_target", measure="pearson").iloc[0]
    assert found[["wins", "ties", "losses"]].tolist() == [0, 17, 0]
    assert found[["mean_difference", "difference_low", "difference_high"]].to_numpy(float) == pytest.approx(
        0, abs=1e-12
    )
    assert found["share_first_better"] == 0.5


def test_groups_without_order_count_for_neither(published):
    flat = published.assign(gbc=published["gbc"].where(published["target"] != "camvid", 1.0))
    found = row(compare_metrics(flat, scenario="fixed_target", n_bootstrap=2), "gbc", "leep")
    assert found["n_groups"] == 16
    assert row(compare_metrics(flat, scenario="fixed_target", n_bootstrap=2), "leep", "logme")["n_groups"] == 17


def test_one_group_has_a_difference_and_no_interval(published):
    one = published[published["target"] == "camvid"]
    found = row(compare_metrics(one, scenario="fixed_target"), "gbc", "leep")
    assert found["n_groups"] == 1
    assert np.isfinite(found["mean_difference"])
    assert np.isnan([found["difference_low"], found["difference_high"], found["share_first_better"]]).all()


def test_unknown_measure_and_scenario(published):
    with pytest.raises(ResultsError, match="'auc' is unknown; choose one of top1, tau_w"):
        compare_metrics(published, scenario="fixed_target", measure="auc")
    with pytest.raises(ResultsError, match="'fixed_moon' is unknown"):
        compare_metrics(published, scenario="fixed_moon")
