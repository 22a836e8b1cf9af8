"""Groups and controls: what is in them, what is chosen, and that no control looks where it must not."""

import itertools

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import group_row, pairs_of, random_pairs, row

from seg_transfer.evaluation import MEASURES, evaluate, evaluate_groups, measures

evaluate = on_all_columns(evaluate)
evaluate_groups = on_all_columns(evaluate_groups)


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
        assert new["kendall"] == pytest.approx(-old["kendall"])  # a control that looked would follow the reversal


def test_mean_rank_elsewhere_is_constant_in_a_single_group():
    pairs = random_pairs()
    found = row(evaluate(pairs[pairs["target"] == "d1"]), "fixed_target", "mean_rank_elsewhere")
    assert (found["top1"], found["n_tau_undefined"]) == (pytest.approx(1 / 5), 1)
    assert np.isnan(found["tau_w"])
