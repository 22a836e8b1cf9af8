"""Which columns are judged: known metrics, or those that are named; and what counts as a number."""

from decimal import Decimal
from functools import partial

import numpy as np
import pandas as pd
import pytest

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import (
    compare_metrics,
    evaluate,
    evaluate_groups,
    leave_one_dataset_out,
    metric_columns,
    rankings,
    setup_stability,
)
from seg_transfer.store.published import load_published

FUNCTIONS = [
    partial(evaluate, n_bootstrap=2),
    evaluate_groups,
    partial(rankings, scenario="fixed_target"),
    partial(compare_metrics, scenario="fixed_target", n_bootstrap=2),
    partial(leave_one_dataset_out, scenario="fixed_target"),
    partial(setup_stability, subset_sizes=[5], n_subsets=2),
]
every_function = pytest.mark.parametrize("function", FUNCTIONS)


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    """Six datasets of the published pairs, with two metrics."""
    published = load_published()
    few = sorted(published["target"].unique())[:6]
    some = published[published["source"].isin(few) & published["target"].isin(few)]
    return some[["source", "target", "miou", "leep", "logme"]].reset_index(drop=True)


def judged(frame: pd.DataFrame) -> set[str]:
    """The metrics that a result names."""
    names = {name for column in ("metric", "first", "second") if column in frame for name in frame[column]}
    return names - {"mean_rank_elsewhere", "random", ""}


@every_function
def test_a_column_that_is_no_metric_is_refused_and_not_ranked(pairs, function):
    # As merging the tables of a run folder leaves them: counts, seeds, keys.
    merged = pairs.assign(n_images=150, seed=0, content_key="0f3a")
    with pytest.raises(ResultsError) as caught:
        function(merged)
    assert str(caught.value) == (
        "pairs: column 'n_images' is not a known metric (nor are 2 others); name the metrics to judge, as in "
        "metrics=['leep', 'logme'], or drop the column"
    )


@every_function
def test_named_metrics_are_judged_and_all_other_columns_ignored(pairs, function):
    other = pairs.assign(n_images=150, content_key="0f3a", gbc=np.nan, ours=pairs["leep"])
    found = function(other, metrics=["ours", "logme"])
    assert judged(found) == {"ours", "logme"}
    renamed = pairs[["source", "target", "miou", "leep", "logme"]].rename(columns={"leep": "ours"})
    pd.testing.assert_frame_equal(found, function(renamed, metrics=["ours", "logme"]))


@every_function
def test_known_metrics_are_the_default(pairs, function):
    pd.testing.assert_frame_equal(function(pairs), function(pairs, metrics=["leep", "logme"]))


def test_the_order_is_that_of_the_names(pairs):
    frame = evaluate(pairs, metrics=["logme", "leep"], scenarios=["fixed_target"], n_bootstrap=2)
    assert frame["metric"].tolist()[:2] == ["logme", "leep"]


def test_scores_below_each_other_are_to_be_pivoted(pairs):
    long = pairs.melt(["source", "target", "miou"], var_name="metric", value_name="score")
    with pytest.raises(ResultsError, match=r"'metric' and 'score' hold one row per metric; .*pivot") as caught:
        evaluate(long)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["gbc"], "metric 'gbc' is not among the columns source, target, miou, leep, logme, random; add it"),
        (["leep", "leep"], "'leep' is named twice"),
        (["leep", "random"], "metric 'random' has the name of a control"),
        (["miou"], "'miou' is a column of every pair, not a metric"),
        (["rank_mean"], "metric 'gbc' is not among the columns"),
    ],
)
def test_names_that_cannot_be_judged(pairs, metrics, message):
    with pytest.raises(ResultsError, match=message):
        evaluate(pairs.assign(random=1.0), metrics=metrics)


def test_a_column_that_is_there_twice_is_refused(pairs):
    with pytest.raises(ResultsError, match="2 columns are called 'leep'; keep one"):
        evaluate(pd.concat([pairs, pairs["leep"]], axis=1), metrics=["leep"])


def test_a_mean_rank_is_made_where_it_is_named_of_parts_that_need_not_be(pairs):
    both = pairs.rename(columns={"leep": "gbc", "logme": "nleep"}).assign(logme=pairs["logme"])
    kept = evaluate(both, n_bootstrap=2)
    assert judged(evaluate(both, metrics=["gbc", "nleep", "logme"], n_bootstrap=2)) == {"gbc", "nleep", "logme"}
    alone = evaluate(both, metrics=["rank_mean"], n_bootstrap=2)
    assert judged(alone) == {"rank_mean"}
    columns = ["scenario", "metric", "tau_w", "top1"]
    expected = kept[~kept["metric"].isin(["gbc", "nleep", "logme"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone[columns], expected[columns])


def test_metric_columns_are_all_other_columns(pairs):
    assert metric_columns(pairs.assign(n_target_classes=3, ours=1.0)) == ["leep", "logme", "ours"]
    assert metric_columns(pairs.assign(gbc=1.0, nleep=2.0))[-3:] == ["gbc", "nleep", "rank_mean"]
    assert metric_columns(pairs[["source", "target", "miou"]].assign(gbc=1.0, nleep=2.0))[-1] == "rank_mean"
    assert metric_columns(pairs[["source", "target", "miou"]].assign(logme=1.0, nleep=2.0))[-1] == "nleep"
    assert metric_columns(pairs.assign(gbc=1.0, rank_mean=0.0, nleep=2.0))[-3:] == ["gbc", "rank_mean", "nleep"]


# What is a number


@pytest.mark.parametrize(
    "convert",
    [
        lambda column: column.astype(object),
        lambda column: column.map(lambda value: Decimal(repr(float(value)))).astype(object),
        lambda column: column.astype("Float64"),
        lambda column: column.map(np.float64).astype(object),
        lambda column: column.astype("category"),
    ],
    ids=["object", "decimal", "nullable", "numpy scalars", "category"],
)
@pytest.mark.parametrize("name", ["leep", "miou"])
def test_numbers_of_any_type_are_numbers(pairs, convert, name):
    pd.testing.assert_frame_equal(evaluate(pairs.assign(**{name: convert(pairs[name])})), evaluate(pairs))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.nan, "nan"),
        (-np.inf, "-inf"),
        (None, "None"),
        (pd.NA, "<NA>"),
        ("0.5", "'0.5'"),
        (True, "True"),
        (1j, "1j"),
        ([0.5], r"\[0\.5\]"),
        (10**400, "10{400}"),
    ],
)
def test_what_is_no_finite_number_names_the_pair_the_column_and_the_value(pairs, value, shown):
    column = pairs["leep"].astype(object)
    column.iat[3] = value
    source, target = pairs.loc[3, ["source", "target"]]
    with pytest.raises(
        ResultsError, match=f"^pair {source} -> {target} has leep = {shown}, not a finite number; compute"
    ):
        evaluate(pairs.assign(leep=column))


def test_a_column_of_truth_values_is_none_of_numbers(pairs):
    with pytest.raises(ResultsError, match=r"has leep = (True|False), not a finite number"):
        evaluate(pairs.assign(leep=pairs["leep"] > pairs["leep"].median()))
