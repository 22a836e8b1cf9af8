"""The metric that the evaluation makes of two others: minus their mean rank, inside each group."""

import numpy as np
import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import MEASURES, evaluate, evaluate_groups, measures, rankings
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)
evaluate_groups = on_all_columns(evaluate_groups)
rankings = on_all_columns(rankings)


@pytest.fixture
def pairs():
    """The published pairs, one in three left out, in disorder; gbc is rounded so that it has ties in every group."""
    pairs = load_published().sample(frac=2 / 3, random_state=1)
    return pairs.assign(gbc=pairs["gbc"].round(-1))


def slow_mean_rank(*scores):
    """Over all scores the places, from 1, that an item shares with its equals when the highest comes first."""
    places = [[np.mean(np.flatnonzero(np.sort(-one) == -value) + 1) for value in one] for one in scores]
    return np.mean(places, axis=0)


@pytest.mark.parametrize("axes", [("target", "source"), ("source", "target")])
def test_the_mean_rank_is_one_more_metric_by_ranks_inside_the_group(pairs, axes):
    assert pairs.duplicated([axes[0], "gbc"]).sum() > 17
    scenario = f"fixed_{axes[0]}"
    groups = evaluate_groups(pairs, scenarios=[scenario]).query("metric == 'rank_mean'").set_index("group")
    ranked = rankings(pairs, scenario).query("metric == 'rank_mean'").set_index(["group", "item"])["score"]
    for group, members in pairs.groupby(axes[0]):
        other = {"target": "logme", "source": "nleep"}[axes[0]]
        score = -slow_mean_rank(members["gbc"].to_numpy(), members[other].to_numpy())
        found = groups.loc[group]
        assert found[list(MEASURES)].to_dict() == pytest.approx(measures(members["miou"].to_numpy(), score))
        assert (found["kind"], found["n_items"]) == ("metric", len(members))
        assert ranked[group][members[axes[1]]].tolist() == pytest.approx(score.tolist())
    mean = evaluate(pairs, scenarios=[scenario], n_bootstrap=2).set_index("metric").loc["rank_mean"]
    assert mean[list(MEASURES)].to_dict() == pytest.approx(groups[list(MEASURES)].mean().to_dict())


def test_it_stands_between_metrics_and_controls(pairs):
    names = evaluate(pairs, scenarios=["fixed_target"], n_bootstrap=2)["metric"].tolist()
    metrics = ["gbc", "leep", "nleep", "logme", "hscore"]
    assert names == [*metrics, "rank_mean", "mean_rank_elsewhere", "random"]


def test_there_is_none_without_both_parts_and_a_column_of_its_name_is_kept(pairs):
    for missing, scenario in (("nleep", "fixed_source"), ("logme", "fixed_target")):
        found = evaluate(pairs.drop(columns=missing), n_bootstrap=2)
        assert set(found.loc[found["metric"] == "rank_mean", "scenario"]) == {"fixed_target", "fixed_source"} - {
            scenario
        }
    assert "rank_mean" not in set(rankings(pairs.drop(columns="gbc"), "fixed_target")["metric"])
    own = pairs.assign(rank_mean=pairs["miou"])
    assert evaluate(own, n_bootstrap=2).query("metric == 'rank_mean'")["tau_w"].tolist() == pytest.approx([1, 1])
    assert set(rankings(own, "fixed_target").query("metric == 'rank_mean'")["score"]) == set(pairs["miou"])
