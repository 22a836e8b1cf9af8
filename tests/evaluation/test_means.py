"""Means over groups, their intervals, groups that are left out, and the rankings behind them."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import pairs_of, random_pairs, row

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import MEASURES, evaluate, evaluate_groups, rankings, scratch_report

evaluate = on_all_columns(evaluate)
evaluate_groups = on_all_columns(evaluate_groups)
rankings = on_all_columns(rankings)


def test_evaluate_is_the_mean_of_evaluate_groups():
    pairs = random_pairs()
    means = evaluate_groups(pairs).groupby(["scenario", "metric"])[list(MEASURES)].mean()
    frame = evaluate(pairs).set_index(["scenario", "metric"])
    pd.testing.assert_frame_equal(frame[list(MEASURES)].sort_index(), means.sort_index())
    assert set(frame["n_groups"]) == {6}
    assert set(frame["n_too_small"]) == {0}


def test_order_of_rows_and_index_do_not_matter():
    pairs = random_pairs()
    shuffled = pairs.sample(frac=1, random_state=3).set_index("miou", drop=False)
    pd.testing.assert_frame_equal(evaluate(shuffled), evaluate(pairs))
    tied, tied_shuffled = pairs.assign(near=1.0), shuffled.assign(near=1.0)
    assert evaluate_groups(tied)["chosen"].tolist() == evaluate_groups(tied_shuffled)["chosen"].tolist()


def test_measures_see_only_the_order_of_scores_except_pearson():
    pairs = random_pairs()
    warped = pairs.assign(near=np.exp(pairs["near"] / 100), far=pairs["far"] * 1e9 - 7)
    ranked = [name for name in MEASURES if name != "pearson"]
    pd.testing.assert_frame_equal(evaluate(warped)[ranked], evaluate(pairs)[ranked])


def test_an_oracle_is_perfect_and_its_reverse_is_not():
    frame = evaluate(random_pairs().assign(oracle=lambda p: p["miou"] * 7 - 3, worst=lambda p: -p["miou"]))
    for scenario in ("fixed_target", "fixed_source"):
        oracle, worst = row(frame, scenario, "oracle"), row(frame, scenario, "worst")
        assert oracle[list(MEASURES)].astype(float).to_numpy() == pytest.approx([1, 1, 1, 1, 1, 0])
        assert oracle["beaten_by"] is None
        assert (worst["top1"], worst["tau_w"]) == (0, pytest.approx(-1))
        assert {"random", "mean_rank_elsewhere"} <= set(worst["beaten_by"])


def test_intervals_are_seeded_and_match_a_plain_bootstrap():
    pairs = random_pairs(8)
    frame = evaluate(pairs, seed=1)
    pd.testing.assert_frame_equal(frame, evaluate(pairs, seed=1))
    assert not frame["tau_w_low"].equals(evaluate(pairs, seed=2)["tau_w_low"])
    groups = evaluate_groups(pairs)
    values = groups.loc[(groups["scenario"] == "fixed_target") & (groups["metric"] == "far"), "tau_w"].to_numpy()
    rng = np.random.default_rng(5)
    low, high = np.percentile([rng.choice(values, len(values)).mean() for _ in range(20_000)], [2.5, 97.5])
    found = row(frame, "fixed_target", "far")
    assert (found["tau_w_low"], found["tau_w_high"]) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_every_metric_sees_the_same_draws():
    pairs = random_pairs()
    frame = evaluate(pairs.assign(twin=pairs["far"] * 2), n_bootstrap=50)
    intervals = [f"{name}_{side}" for name in MEASURES for side in ("low", "high")]
    far, twin = (row(frame, "fixed_target", name)[intervals].astype(float).to_numpy() for name in ("far", "twin"))
    assert far == pytest.approx(twin, abs=1e-12)


def test_a_group_without_order_is_left_out_of_tau_and_counted():
    pairs = random_pairs()
    flat = pairs.assign(near=pairs["near"].where(pairs["target"] != "d2", 4.0))
    found, groups = row(evaluate(flat), "fixed_target", "near"), evaluate_groups(flat)
    taus = groups.loc[(groups["scenario"] == "fixed_target") & (groups["metric"] == "near")].set_index("group")["tau_w"]
    assert np.isnan(taus["d2"])
    assert (found["n_groups"], found["n_tau_undefined"]) == (6, 1)
    assert found["tau_w"] == pytest.approx(taus.drop("d2").mean())
    assert np.isfinite([found["tau_w_low"], found["tau_w_high"]]).all()


def test_groups_of_one_item_are_left_out_and_counted():
    pairs = random_pairs()
    one = pairs[(pairs["target"] != "d5") | (pairs["source"] == "d0")]
    found = row(evaluate(one), "fixed_target", "near")
    assert (found["n_groups"], found["n_too_small"]) == (5, 1)
    assert "d5" not in set(evaluate_groups(one, scenarios=["fixed_target"])["group"])


def test_one_target_alone_still_reports_both_scenarios():
    pairs = random_pairs()
    frame = evaluate(pairs[pairs["target"] == "d1"])
    target, source = row(frame, "fixed_target", "near"), row(frame, "fixed_source", "near")
    assert target["n_groups"] == 1
    assert np.isnan(target["tau_w_low"])  # one group has no spread
    assert np.isfinite(target["tau_w"])
    assert (source["n_groups"], source["n_too_small"]) == (0, 5)
    assert np.isnan(source["tau_w"])


def test_rankings_share_the_smaller_rank():
    pairs = pairs_of([[0, 0.5, 0.5, 0.3], *[[0.1] * 4] * 3], m=[[0, 1.0, 3.0, 3.0], *[[1.0] * 4] * 3])
    found = rankings(pairs, "fixed_source")
    first = found[found["group"] == "d0"]
    assert first[["item", "miou_rank", "score_rank"]].to_numpy().tolist() == [["d1", 1, 3], ["d2", 1, 1], ["d3", 3, 1]]
    assert list(found) == ["group", "item", "miou", "miou_rank", "metric", "score", "score_rank"]


def test_scratch_is_never_ranked_and_reported_where_it_was_run():
    pairs = random_pairs()
    scratch = pd.DataFrame({"source": "scratch", "target": ["d0", "d3", "d9"], "miou": [0.01, 0.99, 0.5]})
    both = pd.concat([pairs, scratch], ignore_index=True)
    pd.testing.assert_frame_equal(evaluate(both), evaluate(pairs))
    assert "scratch" not in set(rankings(both, "fixed_target")["item"])
    report = scratch_report(both).set_index("target")
    assert report["beats_scratch"].to_dict() == {"d0": True, "d3": False}  # no source was tried on d9
    best = pairs[pairs["target"] == "d0"].nlargest(1, "miou").iloc[0]
    assert (report.loc["d0", "best_source"], report.loc["d0", "best_miou"]) == (best["source"], best["miou"])
    assert scratch_report(pairs).empty


def _set(column, value):
    return lambda p: p.assign(**{column: p[column].where(p.index != 3, value)})


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (lambda p: p.drop(columns="miou"), "column 'miou' is missing"),
        (lambda p: p.drop(columns="target"), "column 'target' is missing"),
        (_set("miou", np.nan), r"pair d0 -> d4 has miou = nan"),
        (_set("n_target_classes", np.nan), r"pair d0 -> d4 has n_target_classes = nan"),
        (_set("n_target_classes", 77), r"-> d4 has another value of n_target_classes than"),
        (_set("target", "d0"), r"pair d0 -> d0 has the source as its target"),
        (_set("target", None), "no source or no target"),
        (lambda p: pd.concat([p, p[4:5]]), r"pair d0 -> d5 is given twice"),
        (lambda p: p.assign(miou=p["miou"].astype(str)), r"pair d0 -> d1 has miou = '0\.\d+', not a finite number"),
        (lambda p: p.assign(source="scratch").drop_duplicates(["source", "target"]), "no pair with a source model"),
        (lambda p: pd.concat([p, pd.DataFrame({"source": ["scratch"], "target": ["d0"]})]), "scratch -> d0 has miou"),
    ],
)
@pytest.mark.parametrize("function", [evaluate, evaluate_groups, scratch_report, lambda p: rankings(p, "fixed_target")])
def test_refusals_name_the_pair_and_the_rule_in_one_line(function, corrupt, message):
    with pytest.raises(ResultsError, match=message) as caught:
        function(corrupt(random_pairs()))
    assert "\n" not in str(caught.value)


def test_scratch_is_reported_whatever_the_scores_are():
    pairs = pd.concat([random_pairs(), pd.DataFrame({"source": ["scratch"], "target": ["d0"], "miou": [0.1]})])
    pd.testing.assert_frame_equal(scratch_report(pairs.assign(near="n/a", seed=1)), scratch_report(pairs))


def test_unknown_scenario():
    with pytest.raises(ResultsError, match="'fixed_moon' is unknown"):
        evaluate(random_pairs(), scenarios=["fixed_moon"])
