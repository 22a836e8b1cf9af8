"""Other pools of sources: by hand, against evaluate on the pairs that are left, and where there is nothing to vary."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import random_pairs, row

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import evaluate, largest_sources, robustness, robustness_summary
from seg_transfer.evaluation._robustness import _thirds
from seg_transfer.store.published import published_pairs

evaluate = on_all_columns(evaluate)
robustness = on_all_columns(robustness)

MEASURED = ["top1", "tau_w", "regret"]
SIZES = {"d0": 10, "d1": 40, "d2": 60, "d3": 20, "d4": 50, "d5": 30}
THIRDS = [("d0", "d3"), ("d5", "d1"), ("d4", "d2")]


def sized(pairs: pd.DataFrame) -> pd.DataFrame:
    return pairs.assign(parameters=pairs["source"].map(SIZES))


def part(frame: pd.DataFrame, variant: str, left_out: str = "") -> pd.DataFrame:
    rows = frame[(frame["variant"] == variant) & (frame["left_out"] == left_out)]
    return rows.set_index("metric")


def assert_same(found: pd.DataFrame, pairs: pd.DataFrame, scenario: str = "fixed_target") -> None:
    expected = evaluate(pairs, scenarios=[scenario]).set_index("metric")
    shared = expected.index
    assert {"near", "far"} <= set(shared)
    columns = ["n_groups", *MEASURED]
    pd.testing.assert_frame_equal(found.loc[shared, columns], expected[columns], rtol=1e-12)


@pytest.mark.parametrize("scenario", ["fixed_target", "fixed_source"])
def test_every_variant_is_evaluate_on_its_pairs(scenario: str) -> None:
    pairs = sized(random_pairs())
    frame = robustness(pairs, scenario=scenario)
    assert_same(part(frame, "all"), pairs, scenario)
    assert_same(part(frame, "without_largest"), pairs[~pairs["source"].isin(["d2", "d4"])], scenario)
    for name in SIZES:
        assert_same(part(frame, "leave_one_source_out", name), pairs[pairs["source"] != name], scenario)
    sizes = [] if scenario == "fixed_source" else ["equal_size"]
    assert frame["variant"].unique().tolist() == ["all", "without_largest", *sizes, "leave_one_source_out"]


def test_sources_of_equal_size_compete_in_thirds() -> None:
    pairs = sized(random_pairs())
    found = part(robustness(pairs), "equal_size").loc["near"]
    # The targets d0 to d5 are no rivals of themselves: in their own third, one source is left, and that is no group.
    regrets, hits = [], []
    for target, members in pairs.groupby("target"):
        for third in THIRDS:
            rivals = members[members["source"].isin(third)]
            assert len(rivals) == 2 - (target in third)
            if len(rivals) == 2:
                chosen = rivals["miou"][rivals["near"].idxmax()]
                regrets.append(rivals["miou"].max() - chosen)
                hits.append(chosen == rivals["miou"].max())
    assert (found["n_groups"], len(regrets)) == (12, 12)
    assert found[MEASURED].tolist() == pytest.approx([np.mean(hits), 2 * np.mean(hits) - 1, np.mean(regrets)])


def test_a_metric_that_sees_size_alone_has_nothing_to_say_within_a_size() -> None:
    sizes = {"d0": 1, "d1": 1, "d2": 2, "d3": 2, "d4": 3, "d5": 3}
    pairs = random_pairs().assign(parameters=lambda p: p["source"].map(sizes))
    found = part(robustness(pairs.assign(size=pairs["parameters"])), "equal_size")
    assert found.loc[["size", "parameters"], "tau_w"].isna().all()
    assert found.loc[["size", "parameters"], "top1"].tolist() == [0.5, 0.5]
    assert found.index[found["rank"].notna()].tolist() == ["near", "far"]


@pytest.mark.parametrize(
    ("sizes", "thirds"),
    [
        ([1], [1]),
        ([3, 1, 2], [2, 0, 1]),
        ([1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 1, 1, 2, 2]),
        ([5, 5, 5, 5], [1, 1, 1, 1]),
        ([1, 1, 1, 2], [1, 1, 1, 2]),
        ([1, 2, 2, 2], [0, 1, 1, 1]),
        ([2, 1, 1, 2, 3, 3], [1, 0, 0, 1, 2, 2]),
        # Sizes within 5 % of the smallest of their class are one size.
        ([100, 101, 102, 103, 104, 105], [1, 1, 1, 1, 1, 1]),
        ([100, 103, 106, 200, 201, 209], [0, 0, 1, 2, 2, 2]),
        ([10, 20, 100, 101, 102, 104], [0, 0, 2, 2, 2, 2]),
    ],
)
def test_thirds_hold_sources_of_equal_size_together(sizes: list[int], thirds: list[int]) -> None:
    assert _thirds(pd.Series(sizes, dtype=float)).tolist() == thirds


def test_the_largest_sources_are_those_that_are_left_out() -> None:
    pairs = random_pairs().assign(m=0.0)
    scratch = pd.DataFrame({"source": ["scratch"], "target": ["d0"], "miou": [0.2]})
    sizes = {"d0": 1e6, "d1": 2e6, "d2": 65.0e6, "d3": 65.1e6, "d4": 65.9e6, "d5": 68.1e6}
    of_kinds = pairs.assign(parameters=pairs["source"].map(sizes))
    assert largest_sources(pd.concat([of_kinds, scratch])) == ["d2", "d3", "d4", "d5"]
    assert largest_sources(sized(pairs)) == ["d2", "d4"]
    assert largest_sources(pairs) == largest_sources(pairs.assign(parameters=65e6)) == []
    left = pairs[pairs["source"].isin(["d0", "d1"])]
    assert_same(part(robustness(of_kinds), "without_largest"), left)


@pytest.mark.parametrize("values", [5e6, None])
def test_without_different_sizes_only_single_sources_are_left_out(values: float | None) -> None:
    pairs = random_pairs()
    frame = robustness(pairs.assign(parameters=values))
    pd.testing.assert_frame_equal(frame, robustness(pairs))
    assert set(frame["variant"]) == {"all", "leave_one_source_out"}
    summary = robustness_summary(frame)
    assert summary[["tau_w_without_largest", "tau_w_equal_size"]].isna().all(axis=None)


def test_the_summary_by_hand() -> None:
    pairs = sized(random_pairs())
    frame = robustness(pairs)
    summary = robustness_summary(frame).set_index("metric")
    assert summary.index.tolist() == ["near", "far", "parameters", "mean_rank_elsewhere", "random"]
    for metric, found in summary.iterrows():
        taus = [part(frame, "leave_one_source_out", name).loc[metric, "tau_w"] for name in SIZES]
        assert (found["tau_w_min"], found["tau_w_max"]) == (min(taus), max(taus))
        assert found["n_left_out"] == 6
        for variant in ("without_largest", "equal_size"):
            expected = part(frame, variant).loc[metric, "tau_w"]
            assert found[f"tau_w_{variant}"] == pytest.approx(expected, nan_ok=True)
        assert found["tau_w"] == row(evaluate(pairs), "fixed_target", metric)["tau_w"]
    assert summary["kind"].tolist() == ["metric"] * 2 + ["control"] * 3
    best = [part(frame, "leave_one_source_out", name)["tau_w"][["near", "far"]].idxmax() for name in SIZES]
    assert summary.loc[["near", "far"], "n_first"].tolist() == [best.count("near"), best.count("far")]
    assert summary.loc["random", "n_first"] == 0


def test_rows_and_monotone_scores_change_nothing() -> None:
    pairs = sized(random_pairs())
    frame = robustness(pairs)
    pd.testing.assert_frame_equal(frame, robustness(pairs.sample(frac=1, random_state=4)))
    warped = pairs.assign(near=np.exp(pairs["near"] / 100), parameters=pairs["parameters"] ** 2)
    pd.testing.assert_frame_equal(frame, robustness(warped))


def test_mean_ranks_are_those_of_the_sources_that_are_left() -> None:
    pairs = sized(random_pairs()).rename(columns={"near": "gbc", "far": "nleep"}).assign(logme=lambda p: p["nleep"])
    left = pairs[pairs["source"] != "d3"]
    found = part(robustness(pairs), "leave_one_source_out", "d3")
    expected = row(evaluate(left), "fixed_target", "rank_mean")
    assert found.loc["rank_mean", MEASURED].tolist() == pytest.approx(expected[MEASURED].tolist())


def test_a_single_source_leaves_nothing() -> None:
    pairs = pd.DataFrame({"source": ["a", "a"], "target": ["t", "u"], "miou": [0.5, 0.4], "near": [1.0, 2.0]})
    frame = robustness(pairs)
    assert frame["n_groups"].tolist() == [0] * len(frame)
    assert frame[MEASURED].isna().all(axis=None)
    assert robustness_summary(frame)["n_first"].tolist() == [0, 0, 0]


def test_wrong_pairs_are_refused() -> None:
    with pytest.raises(ResultsError, match="'fixed_moon' is unknown"):
        robustness(random_pairs(), scenario="fixed_moon")


def test_the_published_pairs() -> None:
    pairs, _ = published_pairs()
    summary = robustness_summary(robustness(pairs)).set_index("metric")
    assert (summary["n_left_out"] == 17).all()
    assert (summary["tau_w_min"] <= summary["tau_w"] + 0.05).all()
