"""What score gaps say about performance gaps: by loops over rivals, and what must not change it."""

import itertools

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns
from pair_tables import pairs_of, random_pairs, row

from seg_transfer.evaluation import evaluate

evaluate = on_all_columns(evaluate)
COLUMNS = ["fidelity", "fidelity_low", "fidelity_high"]


def rival_gaps(members: pd.DataFrame, score: str) -> list[tuple[float, float]]:
    rivals = itertools.combinations(members[[score, "miou"]].to_numpy().tolist(), 2)
    return [(a[0] - b[0], a[1] - b[1]) for a, b in rivals]


def slow_fidelity(groups: list[pd.DataFrame], score: str) -> float:
    gaps = [gap for members in groups for gap in rival_gaps(members, score)]
    products, scores, mious = (sum(terms) for terms in zip(*((s * p, s * s, p * p) for s, p in gaps), strict=True))
    return products / np.sqrt(scores * mious)


def test_by_hand() -> None:
    # Targets d0: scores 1 and 3, mIoU .2 and .6; d1: 2 and 1, .5 and .4; d2: 0 and 2, .3 and .1.
    pairs = pairs_of([[0, 0.5, 0.3], [0.2, 0, 0.1], [0.6, 0.4, 0]], m=[[0, 2.0, 0.0], [1.0, 0, 2.0], [3.0, 1.0, 0]])
    found = row(evaluate(pairs), "fixed_target", "m")
    expected = (-2 * -0.4 + 1 * 0.1 + -2 * 0.2) / np.sqrt((4 + 1 + 4) * (0.16 + 0.01 + 0.04))
    assert found["fidelity"] == pytest.approx(expected)


@pytest.mark.parametrize("axis", ["target", "source"])
@pytest.mark.parametrize("score", ["near", "far"])
def test_it_is_the_correlation_of_all_gaps_of_rivals(axis: str, score: str) -> None:
    pairs = random_pairs().sample(frac=0.7, random_state=1)
    groups = [members for _, members in pairs.groupby(axis)]
    found = row(evaluate(pairs), f"fixed_{axis}", score)["fidelity"]
    assert found == pytest.approx(slow_fidelity(groups, score), rel=1e-12)


def test_its_interval_is_that_of_a_plain_bootstrap_over_groups() -> None:
    pairs = random_pairs(8)
    groups = [members for _, members in pairs.groupby("target")]
    rng = np.random.default_rng(5)
    draws = [[groups[index] for index in rng.integers(0, 8, 8)] for _ in range(1500)]
    low, high = np.percentile([slow_fidelity(drawn, "far") for drawn in draws], [2.5, 97.5])
    found = row(evaluate(pairs), "fixed_target", "far")
    assert found[COLUMNS[1:]].tolist() == pytest.approx([low, high], abs=0.1 * (high - low))


def test_shifts_of_groups_and_the_unit_of_scores_change_nothing() -> None:
    pairs = random_pairs()
    shift = pairs["target"].map({f"d{index}": 50.0 * index for index in range(6)})
    before = row(evaluate(pairs), "fixed_target", "near")[COLUMNS].tolist()
    for changed in (pairs["near"] + shift, 1e-200 * pairs["near"], 1e300 * pairs["near"]):
        found = row(evaluate(pairs.assign(near=changed)), "fixed_target", "near")[COLUMNS].tolist()
        assert found == pytest.approx(before, rel=1e-9)
    shuffled = pairs.sample(frac=1, random_state=2)
    assert row(evaluate(shuffled), "fixed_target", "near")[COLUMNS].tolist() == before
    opposite = row(evaluate(pairs.assign(near=-pairs["near"])), "fixed_target", "near")[COLUMNS].tolist()
    assert opposite == pytest.approx([-before[0], -before[2], -before[1]])


def test_gaps_that_are_those_of_performance_are_perfect_and_an_order_alone_is_not() -> None:
    pairs = random_pairs().assign(oracle=lambda p: 7 * p["miou"] - 3, order=lambda p: p["miou"] ** 9)
    frame = evaluate(pairs)
    assert row(frame, "fixed_source", "oracle")[COLUMNS].tolist() == pytest.approx([1, 1, 1])
    order = row(frame, "fixed_source", "order")
    assert order["tau_w"] == pytest.approx(1)
    assert 0 < order["fidelity"] < 0.99
    assert row(frame, "fixed_source", "random")[COLUMNS].tolist() == [0, 0, 0]


def test_without_gaps_there_is_no_fidelity() -> None:
    pairs = random_pairs()
    assert np.isnan(row(evaluate(pairs.assign(near=0.1)), "fixed_target", "near")["fidelity"])
    flat = evaluate(pairs.assign(miou=0.1))
    assert flat["fidelity"].isna().all()
    one_target = row(evaluate(pairs[pairs["target"] == "d1"]), "fixed_target", "near")
    assert np.isfinite(one_target["fidelity"])
    assert np.isnan(one_target["fidelity_low"])
