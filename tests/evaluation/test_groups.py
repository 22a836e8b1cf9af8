"""Evaluation measures against hand-computed values, a slow obvious reference, golden values and planted faults."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import MEASURES, evaluate, evaluate_groups, measures, rankings, scratch_report

evaluate = on_all_columns(evaluate)
evaluate_groups = on_all_columns(evaluate_groups)
rankings = on_all_columns(rankings)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "weighted_tau.json").read_text())["cases"]


def pairs_of(miou, **scores):
    """Pairs of a square table miou[source][target]; the diagonal is left out."""
    names = [f"d{i}" for i in range(len(miou))]
    rows = [
        {"source": s, "target": t, "miou": miou[i][j], **{name: score[i][j] for name, score in scores.items()}}
        for (i, s), (j, t) in itertools.product(enumerate(names), repeat=2)
        if i != j
    ]
    return pd.DataFrame(rows)


def random_pairs(n=6, seed=0):
    """Correlated, unbalanced, off-centre: good sources, hard targets, scores of very different scale."""
    rng = np.random.default_rng(seed)
    miou = 0.3 + 0.1 * rng.random((n, 1)) + 0.2 * rng.random((1, n)) ** 2 + 0.05 * rng.random((n, n))
    near, far = -900 + 300 * miou + 5 * rng.standard_normal((n, n)), 1e-6 * rng.standard_normal((n, n))
    pairs = pairs_of(miou, near=near, far=far)
    return pairs.assign(n_target_classes=pairs["target"].map({f"d{i}": 2 + i * i for i in range(n)}))


def row(frame, scenario, metric):
    return frame[(frame["scenario"] == scenario) & (frame["metric"] == metric)].iloc[0]


def group_row(frame, scenario, group, metric):
    return row(frame[frame["group"] == group], scenario, metric)


def slow_weighted_tau(x, y):
    """Mean over the two lexicographic rankings of a sum over all ordered pairs, weight 1/(1+rank) added."""

    def against(order):
        rank = {item: position for position, item in enumerate(order)}
        agree = in_x = in_y = 0.0
        for i, j in itertools.permutations(range(len(x)), 2):
            weight = 1 / (1 + rank[i]) + 1 / (1 + rank[j])
            sign_x, sign_y = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
            agree, in_x, in_y = agree + weight * sign_x * sign_y, in_x + weight * sign_x**2, in_y + weight * sign_y**2
        return agree / np.sqrt(in_x * in_y)

    items = range(len(x))
    by_x = sorted(items, key=lambda i: (x[i], y[i]), reverse=True)
    by_y = sorted(items, key=lambda i: (y[i], x[i]), reverse=True)
    return (against(by_x) + against(by_y)) / 2


# --- one group ---


@pytest.mark.parametrize("seed", range(20))
def test_tau_w_is_the_slow_reference_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal(11)
    performance, score = latent, latent + rng.standard_normal(11)
    if seed % 2:
        performance, score = np.round(performance), np.round(score)
        assert len(set(performance)) < 11 > len(set(score))
    assert measures(performance, score)["tau_w"] == pytest.approx(slow_weighted_tau(performance, score), abs=1e-13)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_taus(name):
    case = GOLDEN[name]
    found = measures(np.array(case["performance"]), np.array(case["score"]))
    for measure in ("tau_w", "kendall"):
        expected = np.nan if case[measure] is None else case[measure]
        assert found[measure] == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("performance", "score", "top1", "rel_at_1"),
    [
        ([0.2, 0.5, 0.4], [1.0, 9.0, 2.0], 1.0, 1.0),
        ([0.2, 0.5, 0.4], [9.0, 1.0, 2.0], 0.0, 0.4),
        ([0.2, 0.5, 0.4], [1.0, 2.0, 2.0], 1 / 2, 0.9),  # two tied scores, one of them the best
        ([0.2, 0.5, 0.4], [2.0, 1.0, 2.0], 0.0, 0.6),  # two tied scores, neither the best
        ([0.2, 0.5, 0.4], [7.0, 7.0, 7.0], 1 / 3, 11 / 15),  # all tied: as good as random
        ([0.5, 0.5, 0.4], [1.0, 2.0, 0.0], 1.0, 1.0),  # two equally best items, one of them chosen
        ([0.5, 0.5, 0.4], [0.0, 2.0, 2.0], 1 / 2, 0.9),  # ties on both sides, one in common
        ([0.0, 0.0], [1.0, 2.0], 1.0, np.nan),  # nothing to be relative to
    ],
)
def test_top1_and_rel_at_1_by_hand(performance, score, top1, rel_at_1):
    found = measures(np.array(performance), np.array(score))
    assert found["top1"] == pytest.approx(top1)
    assert found["rel_at_1"] == pytest.approx(rel_at_1, nan_ok=True)


def test_kendall_and_pearson_by_hand():
    found = measures(np.array([1.0, 2.0, 3.0, 5.0]), np.array([20.0, 10.0, 30.0, 30.0]))
    assert found["kendall"] == pytest.approx((4 - 1) / np.sqrt(6 * 5))  # 4 pairs agree, 1 does not, 1 tied in the score
    assert found["pearson"] == pytest.approx(32.5 / np.sqrt(8.75 * 275))


def test_pearson_of_a_small_spread_far_from_zero():
    x = np.array([0.1, 0.4, 0.2, 0.9])
    assert measures(x, 1e8 + x)["pearson"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("performance", [[0.1, 0.4, 0.2, 0.9], [0.3, 0.3, 0.1, 0.0]])
@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e-150, 1e150, 1e200, 1e307])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_unit_of_the_scores_changes_no_measure(performance, factor, sign):
    score = sign * np.array([3.0, -1.5, 4.0, 8.0])
    assert measures(np.array(performance), factor * score) == pytest.approx(
        measures(np.array(performance), score), rel=1e-14
    )


def test_a_power_of_two_and_a_whole_shift_change_no_bit():
    performance, score = np.array([0.1, 0.4, 0.2, 0.9]), np.array([3.0, -1.0, 4.0, 10.0])
    expected = measures(performance, score)
    for turned in (np.ldexp(score, -600), np.ldexp(score, 1000), np.ldexp(score, -1074), score + 2**40):
        assert measures(performance, turned) == expected


@pytest.mark.parametrize("score", [[-1.7e308, 0.0, 1.7e308], [0.0, 5e-324, 1e-323], [1e-200, 0.5, 1e200]])
def test_scores_at_the_ends_of_the_range_are_ordered(score):
    found = measures(np.array([0.1, 0.2, 0.3]), np.array(score))
    assert found["kendall"] == found["tau_w"] == found["top1"] == 1
    assert found["pearson"] == pytest.approx(np.sqrt(3) / 2 if score[2] == 1e200 else 1)


@pytest.mark.parametrize("constant", ["performance", "score"])
def test_nothing_is_ordered_when_one_side_is_constant(constant):
    x, ones = np.array([0.1, 0.2, 0.4]), np.ones(3)
    found = measures(ones, x) if constant == "performance" else measures(x, ones)
    assert all(np.isnan(found[name]) for name in ("tau_w", "kendall", "pearson"))


# --- groups and controls ---


def test_groups_hold_the_right_items_and_name_chosen_and_best():
    miou = [[0, 0.3, 0.5], [0.2, 0, 0.4], [0.6, 0.1, 0]]
    score = [[0, 1.0, 2.0], [5.0, 0, 3.0], [5.0, 4.0, 0]]
    frame = evaluate_groups(pairs_of(miou, m=score))
    target = group_row(frame, "fixed_target", "d0", "m")  # sources d1 (0.2) and d2 (0.6), equal scores
    assert (target["chosen"], target["best"]) == ("d1, d2", "d2")
    assert (target["top1"], target["n_items"]) == (0.5, 2)
    assert (target["chosen_miou"], target["best_miou"]) == pytest.approx((0.4, 0.6))
    source = group_row(frame, "fixed_source", "d2", "m")  # targets d0 (0.6) and d1 (0.1)
    assert (source["chosen"], source["best"], source["tau_w"]) == ("d0", "d0", pytest.approx(1))


def test_random_is_the_mean_over_all_orders():
    miou = np.array([0.5, 0.2, 0.45, 0.3])
    table = np.tile(miou[:, None], (1, 5))
    frame = pairs_of(np.vstack([table, np.zeros(5)]), m=np.zeros((5, 5)))
    found = group_row(evaluate_groups(frame), "fixed_target", "d4", "random")
    orders = [measures(miou, np.array(order, float)) for order in itertools.permutations(range(4))]
    for name in MEASURES:
        assert found[name] == pytest.approx(np.mean([order[name] for order in orders]), abs=1e-12)


def test_random_with_two_equally_best_items():
    frame = pairs_of([[0, 0.5, 0.5, 0.3]] * 4, m=np.zeros((4, 4)))
    found = group_row(evaluate_groups(frame), "fixed_source", "d0", "random")
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["rel_at_1"] == pytest.approx((1 + 1 + 0.6) / 3)


def test_minus_n_classes_ranks_targets_only():
    pairs = random_pairs()
    groups = evaluate_groups(pairs)
    assert "minus_n_classes" not in set(groups.loc[groups["scenario"] == "fixed_target", "metric"])
    ranked = groups[groups["metric"] == "minus_n_classes"]
    assert set(ranked.loc[ranked["group"] != "d0", "chosen"]) == {"d0"}  # the target of fewest classes
    as_metric = pairs.assign(copy=-pairs["n_target_classes"])
    assert row(evaluate(as_metric), "fixed_source", "copy")["tau_w"] == pytest.approx(
        row(evaluate(pairs), "fixed_source", "minus_n_classes")["tau_w"]
    )
    assert "minus_n_classes" not in set(evaluate(pairs.drop(columns="n_target_classes"))["metric"])


def test_mean_rank_elsewhere_by_hand():
    miou = [[0, 0.9, 0.9, 0.1], [0.1, 0, 0.5, 0.2], [0.2, 0.7, 0, 0.3], [0.3, 0.1, 0.1, 0]]
    found = group_row(evaluate_groups(pairs_of(miou)), "fixed_target", "d3", "mean_rank_elsewhere")
    # Elsewhere: d0 is first on d1 and d2; d1 last on d0, second on d2; d2 second on d0 and d1. On d3: d2, d1, d0.
    assert (found["chosen"], found["top1"]) == ("d0", 0)
    assert found["kendall"] == pytest.approx((1 - 2) / 3)  # d0, d2, d1 against d2, d1, d0


def slow_mean_rank_elsewhere(pairs, group, item, axes):
    """Rivals beaten minus rivals that win, over all comparisons of the item outside the group."""
    group_axis, item_axis = axes
    balance = comparisons = 0
    for other, members in pairs.groupby(group_axis):
        if other == group or item not in set(members[item_axis]):
            continue
        own = members.loc[members[item_axis] == item, "miou"].iloc[0]
        balance += sum(int(own > rival) - int(own < rival) for rival in members["miou"])
        comparisons += len(members) - 1
    return balance / comparisons if comparisons else 0.0


@pytest.mark.parametrize("axes", [("target", "source"), ("source", "target")])
def test_mean_rank_elsewhere_of_an_incomplete_study_with_ties(axes):
    pairs = random_pairs().sample(frac=0.7, random_state=2)
    pairs["miou"] = pairs["miou"].round(1)
    alone = pd.DataFrame(
        {"source": ["new", "d0"], "target": ["d1", "new"], "miou": [0.4, 0.5]}
    )  # seen in one group only
    pairs = pd.concat([pairs, alone])[["source", "target", "miou"]]
    groups = evaluate_groups(pairs, scenarios=[f"fixed_{axes[0]}"])
    for group, members in pairs.groupby(axes[0]):
        if len(members) > 1:
            score = np.array([slow_mean_rank_elsewhere(pairs, group, item, axes) for item in members[axes[1]]])
            found = group_row(groups, f"fixed_{axes[0]}", group, "mean_rank_elsewhere")
            expected = measures(members["miou"].to_numpy(), score)
            assert found[list(MEASURES)].to_dict() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("scenario", ["fixed_target", "fixed_source"])
def test_mean_rank_elsewhere_never_looks_at_its_own_group(scenario):
    """Whatever happens inside a group, the control chooses there what it chose before."""
    pairs, axis = random_pairs(), scenario.removeprefix("fixed_")
    before = evaluate_groups(pairs)
    for group in pairs[axis].unique():
        inside = pairs[axis] == group
        turned = pairs.assign(miou=pairs["miou"].where(~inside, 1 - pairs["miou"]))
        old = group_row(before, scenario, group, "mean_rank_elsewhere")
        new = group_row(evaluate_groups(turned), scenario, group, "mean_rank_elsewhere")
        assert new["chosen"] == old["chosen"]
        assert new["tau_w"] != pytest.approx(old["tau_w"], abs=1e-3)
        assert new["kendall"] == pytest.approx(-old["kendall"])  # a control that peeked would follow the reversal


def test_mean_rank_elsewhere_without_elsewhere_has_no_opinion():
    pairs = random_pairs()
    found = row(evaluate(pairs[pairs["target"] == "d1"]), "fixed_target", "mean_rank_elsewhere")
    assert (found["top1"], found["n_tau_undefined"]) == (pytest.approx(1 / 5), 1)
    assert np.isnan(found["tau_w"])


# --- means, intervals, what is left out ---


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
        assert oracle[list(MEASURES)].astype(float).to_numpy() == pytest.approx(np.ones(5))
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


# --- rankings and scratch ---


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


# --- refusals ---


def _set(column, value):
    return lambda p: p.assign(**{column: p[column].where(p.index != 3, value)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.drop(columns="miou"), "column 'miou' is missing"),
        (lambda p: p.drop(columns="target"), "column 'target' is missing"),
        (_set("miou", np.nan), r"pair d0 -> d4 has miou = nan"),
        (_set("n_target_classes", np.nan), r"pair d0 -> d4 has n_target_classes = nan"),
        (_set("n_target_classes", 77), r"-> d4 has another n_target_classes"),
        (_set("target", "d0"), r"pair d0 -> d0 has itself as target"),
        (_set("target", None), "no source or no target"),
        (lambda p: pd.concat([p, p[4:5]]), r"pair d0 -> d5 is given twice"),
        (lambda p: p.assign(miou=p["miou"].astype(str)), r"pair d0 -> d1 has miou = '0\.\d+', not a finite number"),
        (lambda p: p.assign(source="scratch").drop_duplicates(["source", "target"]), "no pair with a source model"),
        (lambda p: pd.concat([p, pd.DataFrame({"source": ["scratch"], "target": ["d0"]})]), "scratch -> d0 has miou"),
    ],
)
@pytest.mark.parametrize("function", [evaluate, evaluate_groups, scratch_report, lambda p: rankings(p, "fixed_target")])
def test_refusals_name_the_pair_and_the_rule_in_one_line(function, spoil, message):
    with pytest.raises(ResultsError, match=message) as caught:
        function(spoil(random_pairs()))
    assert "\n" not in str(caught.value)


def test_scratch_is_reported_whatever_the_scores_are():
    pairs = pd.concat([random_pairs(), pd.DataFrame({"source": ["scratch"], "target": ["d0"], "miou": [0.1]})])
    pd.testing.assert_frame_equal(scratch_report(pairs.assign(near="n/a", seed=1)), scratch_report(pairs))


def test_unknown_scenario():
    with pytest.raises(ResultsError, match="'fixed_moon' is unknown"):
        evaluate(random_pairs(), scenarios=["fixed_moon"])
