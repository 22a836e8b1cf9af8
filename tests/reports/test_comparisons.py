"""Tables that compare metrics: what they show, and that little data gives fewer of them."""

import pandas as pd
import pytest
from all_columns import on_all_columns
from report_inputs import pairs_of

from seg_transfer.evaluation import compare_metrics, leave_one_dataset_out, leave_out_summary
from seg_transfer.reports.comparisons import comparison, comparison_tables

compare_metrics = on_all_columns(compare_metrics)
leave_one_dataset_out = on_all_columns(leave_one_dataset_out)


@pytest.fixture(scope="module")
def pairs():
    return pairs_of(["a", "b", "c", "d"], ["gbc", "leep"])


def tables(pairs, metric="gbc"):
    return {table.name: table for table in comparison_tables(pairs, comparison(pairs), metric)}


def test_the_comparison_has_both_scenarios(pairs):
    found = comparison(pairs)
    for scenario, rows in found.groupby("scenario"):
        expected = compare_metrics(pairs, scenario=scenario).rename(columns={"second": "second_metric"})
        pd.testing.assert_frame_equal(rows.drop(columns="scenario").reset_index(drop=True), expected)


def test_the_page_compares_one_metric_with_all_others(pairs):
    shown = tables(pairs, "leep")["comparison"].shown
    assert set(shown["first"]) == {"leep"}
    assert shown["second_metric"].tolist() == ["gbc", "mean_rank_elsewhere", "random"]


def test_leaving_out_is_that_of_the_evaluation(pairs):
    expected = leave_out_summary(leave_one_dataset_out(pairs, scenario="fixed_target"))
    found = tables(pairs)["leave_one_dataset_out"].frame
    pd.testing.assert_frame_equal(found, expected.drop(columns="n_best_changes"))


def test_setups_are_summed_up_in_one_row(pairs):
    table = tables(pairs)["setup_stability"]
    assert len(table.shown) == 1
    assert table.shown["subset_size"].item() == 3
    assert table.shown["n_subsets"].item() == 4
    assert {"stability_group", "stability_items", "stability_measure"} < set(table.shown)


def test_two_sources_are_too_few_to_leave_one_out():
    few = pairs_of(["a", "b", "c"], ["gbc", "leep"]).query("source != 'c'")
    assert list(tables(few)) == ["comparison"]


def test_one_metric_has_no_ranking_of_metrics():
    one = pairs_of(["a", "b", "c", "d"], ["gbc"])
    assert list(tables(one)) == ["comparison", "leave_one_dataset_out"]
