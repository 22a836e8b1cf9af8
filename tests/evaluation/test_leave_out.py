"""Leaving out one dataset is evaluating the pairs without it."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import evaluate, leave_one_dataset_out, leave_out_summary
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)
leave_one_dataset_out = on_all_columns(leave_one_dataset_out)

SCENARIOS = ("fixed_target", "fixed_source")


@pytest.fixture(scope="module")
def published():
    return load_published()


@pytest.fixture(scope="module")
def left_out(published):
    return {scenario: leave_one_dataset_out(published, scenario=scenario) for scenario in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("dataset", ["", "camvid", "coco"])
def test_a_row_is_what_evaluate_says_of_the_other_datasets(published, left_out, scenario, dataset):
    rest = published[(published["source"] != dataset) & (published["target"] != dataset)]
    expected = evaluate(rest, scenarios=[scenario], n_bootstrap=1)
    frame = left_out[scenario]
    found = frame[frame["left_out"] == dataset].reset_index(drop=True)
    columns = ["metric", "kind", "n_groups", "tau_w", "top1"]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    assert set(found["n_groups"]) == {17 if dataset == "" else 16}
    metrics = found[found["kind"] == "metric"]
    assert metrics.sort_values("tau_w", ascending=False)["rank"].tolist() == list(range(1, 7))
    assert found[found["kind"] == "control"]["rank"].isna().all()


def test_every_dataset_is_left_out_once(published, left_out):
    for frame in left_out.values():
        assert frame["left_out"].unique().tolist() == ["", *sorted(published["source"].unique())]


def test_the_published_verdict_for_fixed_targets_rests_on_no_single_dataset(left_out):
    summary = leave_out_summary(left_out["fixed_target"]).set_index("metric")
    assert summary.loc["logme", ["rank", "rank_min", "rank_max", "n_first"]].tolist() == [1, 1, 1, 17]
    assert set(summary["n_best_changes"]) == {0}
    assert set(summary["n_left_out"]) == {17}


def test_the_published_verdict_for_fixed_sources_rests_on_one_target(left_out):
    frame = left_out["fixed_source"]
    summary = leave_out_summary(frame).set_index("metric")
    assert set(summary["n_best_changes"]) == {2}
    assert summary["n_first"][["rank_mean", "gbc", "leep"]].tolist() == [15, 1, 1]
    # One target is the best for every source; without it gbc no longer finds the best.
    gbc = frame[frame["metric"] == "gbc"].set_index("left_out")["top1"]
    assert gbc[""] == pytest.approx(13 / 17)
    assert gbc.min() < 0.2
    assert gbc.drop(gbc.idxmin()).min() > 0.6


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_summary_is_the_least_and_the_most(left_out, scenario):
    frame = left_out[scenario]
    for _, found in leave_out_summary(frame).iterrows():
        rows = frame[(frame["metric"] == found["metric"]) & (frame["left_out"] != "")]
        for name in ("tau_w", "top1"):
            assert (found[f"{name}_min"], found[f"{name}_max"]) == (rows[name].min(), rows[name].max())
        everything = frame[(frame["metric"] == found["metric"]) & (frame["left_out"] == "")].iloc[0]
        assert (found["tau_w"], found["top1"], found["kind"]) == tuple(everything[["tau_w", "top1", "kind"]])


def test_a_planted_dataset_that_alone_makes_a_metric_the_best():
    rng = np.random.default_rng(3)
    names = [f"d{i}" for i in range(6)]
    pairs = pd.DataFrame([(s, t) for t in names for s in names if s != t], columns=["source", "target"])
    pairs["miou"] = 0.2 + 0.5 * rng.random(len(pairs))
    noisy = pairs["miou"] + 0.02 * rng.standard_normal(len(pairs))
    with_d0 = (pairs["source"] == "d0") | (pairs["target"] == "d0")
    # True where d0 takes part and reversed elsewhere, against noise: the verdict turns when d0 is left out.
    pairs["here"] = pairs["miou"].where(with_d0, -pairs["miou"]) + 2 * (pairs["source"] == "d0")
    pairs["noisy"] = noisy.where(~with_d0, -noisy)
    pairs["there"] = np.where(with_d0, -pairs["miou"], pairs["miou"])
    frame = leave_one_dataset_out(pairs, scenario="fixed_target")
    without = frame[frame["left_out"] == "d0"].set_index("metric")
    assert without.loc["there", "tau_w"] == pytest.approx(1)
    assert without.loc["here", "tau_w"] == pytest.approx(-1)
    assert without.loc["there", "rank"] == 1


def test_two_datasets_leave_no_group(published):
    two = published[published["source"].isin(["coco", "camvid"]) & published["target"].isin(["coco", "camvid"])]
    frame = leave_one_dataset_out(two, scenario="fixed_target")
    assert set(frame["n_groups"]) == {0}
    assert frame["tau_w"].isna().all()
    assert frame["rank"].isna().all()
    assert set(leave_out_summary(frame)["n_best_changes"]) == {0}
