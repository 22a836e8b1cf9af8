"""Facts about sources as controls: what they rank, and where they do not."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import group_row, pairs_of, random_pairs, row

from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import (
    CONTROLS,
    SOURCE_FACTS,
    compare_metrics,
    evaluate,
    evaluate_groups,
    leave_one_dataset_out,
    metric_columns,
)

compare_metrics = on_all_columns(compare_metrics)
plain_evaluate, evaluate = evaluate, on_all_columns(evaluate)
evaluate_groups = on_all_columns(evaluate_groups)
leave_one_dataset_out = on_all_columns(leave_one_dataset_out)

MIOU = [[0, 0.5, 0.6], [0.3, 0, 0.4], [0.6, 0.4, 0]]


def with_facts(pairs: pd.DataFrame, **facts: dict[str, object]) -> pd.DataFrame:
    """Add columns from source -> value."""
    return pairs.assign(**{name: pairs["source"].map(values) for name, values in facts.items()})


def controls(frame: pd.DataFrame, scenario: str) -> list[str]:
    rows = frame[(frame["scenario"] == scenario) & (frame["kind"] == "control")]
    return rows["metric"].tolist()


@pytest.mark.parametrize("fact", SOURCE_FACTS)
def test_every_fact_ranks_the_sources_of_a_target_highest_first(fact: str) -> None:
    pairs = with_facts(pairs_of(MIOU), **{fact: {"d0": 3, "d1": 1, "d2": 2}})
    groups = evaluate_groups(pairs)
    chosen = {target: group_row(groups, "fixed_target", target, fact)["chosen"] for target in ("d0", "d1", "d2")}
    assert chosen == {"d0": "d2", "d1": "d0", "d2": "d0"}
    # The best are d2, d0 and d0, so that the control is right everywhere.
    found = row(evaluate(pairs), "fixed_target", fact)
    assert found[["kind", "top1", "tau_w", "regret"]].tolist() == ["control", 1.0, pytest.approx(1), 0.0]
    assert fact not in controls(evaluate(pairs), "fixed_source")


def test_a_control_is_what_a_metric_of_the_same_values_is() -> None:
    sizes = {f"d{index}": float(value) for index, value in enumerate([5, 1, 4, 4, 2, 9])}
    pairs = with_facts(random_pairs(), parameters=sizes).assign(twin=lambda p: p["parameters"])
    frame = evaluate(pairs)
    control, twin = row(frame, "fixed_target", "parameters"), row(frame, "fixed_target", "twin")
    measured = [name for name in frame if name not in ("metric", "kind", "beaten_by")]
    pd.testing.assert_series_equal(control[measured], twin[measured], check_names=False)


def test_controls_stand_in_their_order_and_are_named_where_they_win() -> None:
    oracle = {"d0": 3.0, "d1": 1.0, "d2": 2.0}
    pairs = with_facts(
        pairs_of(MIOU, worst=-np.array(MIOU)), n_train_images=oracle, gflops=oracle, own_miou=oracle, parameters=oracle
    )
    frame = evaluate(pairs.assign(n_target_classes=4))
    assert controls(frame, "fixed_target") == [name for name in CONTROLS if name != "minus_n_classes"]
    assert controls(frame, "fixed_source") == ["minus_n_classes", "mean_rank_elsewhere", "random"]
    assert set(SOURCE_FACTS) <= set(row(frame, "fixed_target", "worst")["beaten_by"])
    first = compare_metrics(pairs, scenario="fixed_target")
    assert {"own_miou", "gflops"} <= {*first["first"], *first["second"]}


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_a_fact_that_one_source_lacks_is_no_control(missing: object) -> None:
    pairs = pairs_of(MIOU, m=MIOU)
    values = pairs["source"].map({"d0": 3.0, "d1": 1.0, "d2": 2.0}).astype(object)
    values[pairs["source"] == "d1"] = missing
    pd.testing.assert_frame_equal(evaluate(pairs.assign(gflops=values)), evaluate(pairs))


def test_what_scratch_lacks_does_not_count() -> None:
    pairs = with_facts(pairs_of(MIOU), own_miou={"d0": 0.3, "d1": 0.1, "d2": 0.2})
    scratch = pd.DataFrame({"source": ["scratch"], "target": ["d0"], "miou": [0.2]})
    pd.testing.assert_frame_equal(evaluate(pd.concat([pairs, scratch])), evaluate(pairs))


def test_a_fact_that_all_rivals_share_is_no_control() -> None:
    pairs = pairs_of(MIOU, m=MIOU)
    pd.testing.assert_frame_equal(evaluate(pairs.assign(parameters=65e6)), evaluate(pairs))
    # Different sizes, but on different targets.
    apart = pairs[pairs["target"] != "d2"].copy()
    apart["parameters"] = apart["source"].map({"d0": 1, "d1": 1, "d2": 2})
    apart = apart[apart["source"] != "d2"]
    assert "parameters" not in controls(evaluate(apart), "fixed_target")


def test_facts_are_no_metrics() -> None:
    pairs = with_facts(pairs_of(MIOU, gbc=MIOU), own_miou={"d0": 0.3, "d1": 0.1, "d2": 0.2})
    assert metric_columns(pairs) == ["gbc"]
    with pytest.raises(ResultsError, match="metric 'own_miou' has the name of a control; rename the column"):
        evaluate(pairs, metrics=["own_miou"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("5M", "pair d1 -> d0 has parameters = '5M', not a finite number"),
        (np.inf, "pair d1 -> d0 has parameters = inf, not a finite number"),
        (
            7.0,
            "pair d1 -> d0 has another value of parameters than another pair of the same source; correct one of them",
        ),
    ],
)
def test_a_wrong_fact_is_refused_in_one_line(values: object, message: str) -> None:
    pairs = pairs_of(MIOU, gbc=MIOU).assign(parameters=1.0).astype({"parameters": object})
    pairs.loc[(pairs["source"] == "d1") & (pairs["target"] == "d0"), "parameters"] = values
    with pytest.raises(ResultsError, match=f"^{message}") as caught:
        plain_evaluate(pairs)
    assert "\n" not in str(caught.value)
    # Where metrics are named, a column that nobody asked for stops nothing.
    found = plain_evaluate(pairs, metrics=["gbc"])
    pd.testing.assert_frame_equal(found, plain_evaluate(pairs.drop(columns="parameters")))


def test_a_control_stays_where_what_is_left_out_makes_it_constant() -> None:
    pairs = with_facts(random_pairs(4), parameters={"d0": 1, "d1": 1, "d2": 1, "d3": 2})
    table = leave_one_dataset_out(pairs, scenario="fixed_target")
    found = table[table["metric"] == "parameters"].set_index("left_out")["tau_w"]
    assert np.isnan(found["d3"])
    assert found.drop("d3").notna().all()
    without = leave_one_dataset_out(pairs.drop(columns="parameters"), scenario="fixed_target")
    others = table[table["metric"] != "parameters"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, without)


@pytest.mark.parametrize(("largest", "is_control"), [(1.1, False), (1.11, True)])
def test_networks_of_one_kind_are_of_one_size_whatever_their_last_layers(largest: float, is_control: bool) -> None:
    pairs = with_facts(pairs_of(MIOU), parameters={"d0": 1.0, "d1": 1.02, "d2": largest})
    assert ("parameters" in controls(evaluate(pairs), "fixed_target")) == is_control
