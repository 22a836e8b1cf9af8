"""Plans of races: rungs by hand, who races within a budget, and how late they are judged first."""

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.errors import ConfigError
from seg_transfer.selection.race_plan import FIRST_SHARES, Pace, Plan, Rung, plan_race, run_plan, rungs_of, survivors

NAMES = "abcdefghij"
LONG, HALF, QUARTER, EIGHTH = FIRST_SHARES


def of_runs(n: int, steps: int = 80) -> dict[str, Pace]:
    """Racers that cost one for the whole schedule, and nothing besides."""
    return dict.fromkeys(NAMES[:n], Pace(step=1 / steps))


def pairs(rungs: Sequence[Rung]) -> list[tuple[int, int]]:
    return [(rung.steps, rung.n_racers) for rung in rungs]


def planned(paces: Mapping[str, Pace], steps: int, budget: float, **options: int) -> Plan | None:
    try:
        return plan_race(list(paces), paces, steps, budget, **options)
    except ConfigError:
        return None


@pytest.mark.parametrize(
    ("n", "share", "rungs"),
    [
        (1, LONG, [(80, 1)]),
        (1, EIGHTH, [(10, 1)]),
        (2, HALF, [(40, 2)]),
        (2, EIGHTH, [(10, 2)]),
        (3, LONG, [(80, 3)]),
        (3, HALF, [(40, 3), (80, 2)]),
        (3, EIGHTH, [(10, 3), (20, 2)]),
        (4, QUARTER, [(20, 4), (40, 2)]),
        (5, QUARTER, [(20, 5), (40, 3), (80, 2)]),
        (9, QUARTER, [(20, 9), (40, 5), (80, 3)]),  # the schedule ends with three
        (16, EIGHTH, [(10, 16), (20, 8), (40, 4), (80, 2)]),
        (40, EIGHTH, [(10, 40), (20, 20), (40, 10), (80, 5)]),
    ],
)
def test_rungs_by_hand(n: int, share: Fraction, rungs: list[tuple[int, int]]) -> None:
    assert pairs(rungs_of(n, 80, share)) == rungs


def test_shares_of_a_step_are_rounded_up() -> None:
    assert pairs(rungs_of(16, 81, EIGHTH)) == [(11, 16), (21, 8), (41, 4), (81, 2)]
    assert pairs(rungs_of(5, 3, HALF)) == [(2, 5), (3, 3)]


@pytest.mark.parametrize(("n", "left"), [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4), (100, 50)])
def test_the_better_half_survives(n: int, left: int) -> None:
    assert survivors(n) == left


@given(st.integers(2, 200), st.sampled_from(FIRST_SHARES), st.integers(1, 500))
def test_survivors_halve_to_two_or_to_the_end_of_the_schedule(n: int, share: Fraction, steps: int) -> None:
    rungs = rungs_of(n, steps, share)
    assert rungs[0].n_racers == n
    for before, after in itertools.pairwise(rungs):
        assert before.n_racers / 2 <= after.n_racers < before.n_racers / 2 + 1
        assert before.n_racers > 2
    assert rungs[-1].n_racers == 2 or rungs[-1].steps == steps
    assert rungs[-1].n_racers >= 2


@given(st.integers(1, 40), st.sampled_from(FIRST_SHARES), st.integers(8, 500))
def test_other_budgets_judge_at_the_same_steps(n: int, share: Fraction, steps: int) -> None:
    every = [math.ceil(part * steps) for part in FIRST_SHARES[::-1]]
    judged = [rung.steps for rung in rungs_of(n, steps, share)]
    assert judged == every[every.index(judged[0]) :][: len(judged)]


@pytest.mark.parametrize(
    ("budget", "rungs"),
    [
        (math.inf, [(80, 6)]),
        (7, [(80, 6)]),  # six, and one at the end
        (6.99, [(40, 6), (80, 3)]),
        (5.5, [(40, 6), (80, 3)]),  # 3 + 1.5 + 1
        (5.49, [(20, 6), (40, 3), (80, 2)]),
        (2.625, [(10, 6), (20, 3), (40, 2)]),  # 0.75 + 0.375 + 0.5 + 1
        (2.62, [(10, 5), (20, 3), (40, 2)]),  # 0.625 + 0.375 + 0.5 + 1
        (2.49, [(10, 4), (20, 2)]),
        (1.74, [(10, 3), (20, 2)]),
        (1.62, [(20, 2)]),  # two of a quarter, and one
        (1.49, [(10, 2)]),
        (1.25, [(10, 2)]),
    ],
)
def test_a_budget_buys_racers_first_and_then_later_judgments(budget: float, rungs: list[tuple[int, int]]) -> None:
    plan = plan_race("abcdef", of_runs(6), 80, budget)
    assert pairs(plan.rungs) == rungs
    assert "".join(plan.racers) == "abcdef"[: rungs[0][1]]  # the more promising stay
    assert plan.steps == 80


@pytest.mark.parametrize(("n", "needed"), [(6, 1.25), (2, 1.25), (1, 1.125)])
def test_a_budget_that_allows_no_race_is_refused(n: int, needed: float) -> None:
    assert len(plan_race("abcdef"[:n], of_runs(n), 80, needed).racers) == min(n, 2)
    with pytest.raises(ConfigError) as error:
        plan_race("abcdef"[:n], of_runs(n), 80, needed - 0.001)
    allowed = f"the budget allows {needed - 0.001:.4g}, but a race of {min(n, 2)} and one fine-tuning to the end take"
    assert str(error.value) == f"{allowed} {needed}"


def test_the_error_says_what_the_race_would_take() -> None:
    paces = {"a": Pace(2.0, 5.0), "b": Pace(0.5, 1.0), "c": Pace(0.001)}
    with pytest.raises(ConfigError) as error:
        plan_race("abc", paces, 800, budget=-3.14159, n_folds=2)
    # Two folds of 100 steps at 2 and at 0.5, and their judgments; then 800 at 2.
    assert str(error.value).endswith("allows -3.142, but a race of 2 and one fine-tuning to the end take 2117")


def test_one_entrant_races_alone() -> None:
    plan = plan_race("a", of_runs(1), 80, budget=2)
    assert (plan.racers, pairs(plan.rungs)) == (("a",), [(80, 1)])
    assert pairs(plan_race("a", of_runs(1), 80, budget=1.99).rungs) == [(40, 1)]


def test_a_dear_racer_stays_if_it_is_promising_and_leaves_its_place_to_nobody() -> None:
    paces = {"a": Pace(1 / 80), "dear": Pace(6 / 80), "b": Pace(1 / 80), "c": Pace(1 / 80)}
    # 0.125 of each, 0.125 of the dear one and another; 6 at the end
    assert plan_race(["dear", "a", "b"], paces, 80, budget=7.875).racers == ("dear", "a", "b")
    assert plan_race(["dear", "a", "b"], paces, 80, budget=7.87).racers == ("dear", "a")
    assert plan_race(["a", "b", "dear", "c"], paces, 80, budget=7.87).racers == ("a", "b")
    assert plan_race(["a", "dear", "b", "c"], paces, 80, budget=7.87).racers == ("a", "dear")


@given(st.integers(1, 10), st.floats(1, 12), st.integers(1, 200))
def test_no_other_plan_has_more_racers_or_judges_them_later(n: int, budget: float, steps: int) -> None:
    """Where racers cost the same, whose plans are easily compared: in steps."""
    possible = []
    for racers, share in itertools.product(range(min(n, 2), n + 1), FIRST_SHARES):
        rungs = rungs_of(racers, steps, share)
        steps_before = [0, *(rung.steps for rung in rungs)]
        cost = sum(rung.n_racers * (rung.steps - before) for rung, before in zip(rungs, steps_before, strict=False))
        if cost + steps <= int(budget * steps):
            possible.append((racers, rungs[0].steps, pairs(rungs)))
    plan = planned(dict.fromkeys(NAMES[:n], Pace(1.0)), steps, int(budget * steps))
    assert (plan is None) == (not possible)
    if plan is not None:
        assert (len(plan.racers), plan.rungs[0].steps) == max(possible)[:2]
        assert pairs(plan.rungs) in [rungs for _, _, rungs in possible]


@given(
    st.lists(st.builds(Pace, st.floats(0.001, 10), st.floats(0, 100)), min_size=1, max_size=10),
    st.integers(1, 200),
    st.tuples(st.floats(0, 5000), st.floats(0, 5000)),
    st.sampled_from([1, 2]),
    st.integers(1, 3),
)
def test_more_budget_never_means_fewer_racers_or_an_earlier_judgment(paces, steps, budgets, n_folds, lanes) -> None:
    by_name = dict(zip(NAMES, paces, strict=False))
    less, more = (planned(by_name, steps, one, n_folds=n_folds, lanes=lanes) for one in sorted(budgets))
    if less is not None:
        assert more is not None
        assert more.racers[: len(less.racers)] == less.racers == tuple(NAMES[: len(less.racers)])
        assert (len(more.racers), more.rungs[0].steps) >= (len(less.racers), less.rungs[0].steps)


def reached(rows: Mapping[int, Mapping[str, float]], asked: list[tuple[str, int]]) -> Any:
    """Judges by a table, and notes who was judged where."""

    def judge(racers: Sequence[str], steps: int) -> dict[str, float]:
        asked.append(("".join(racers), steps))
        return {name: rows[steps][name] for name in reversed(racers) if name in rows[steps]}

    return judge


def run(plan: Plan, rows: Mapping[int, Mapping[str, float]]) -> tuple[list[str], list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []
    orders = run_plan(plan, reached(rows, asked))
    return ["".join(order) for order in orders], asked


FIVE = plan_race("abcde", of_runs(5), 80, budget=2.5)


def test_those_go_on_that_reach_most_at_a_rung() -> None:
    rows = {
        10: {"a": 0.1, "b": 0.5, "c": 0.3, "d": 0.4, "e": 0.2},
        20: {"b": 0.1, "c": 0.3, "d": 0.2},
        40: {"c": 0.3, "d": 0.4},
    }
    orders, asked = run(FIVE, rows)
    assert orders == ["bdcea", "cdb", "dc"]
    assert asked == [("abcde", 10), ("bdc", 20), ("cd", 40)]


def test_of_equally_good_racers_the_more_promising_goes_on() -> None:
    equal = dict.fromkeys("edcba", 0.5)
    assert run(FIVE, {10: equal, 20: equal, 40: equal})[0] == ["abcde", "abc", "ab"]


def test_a_racer_that_fails_leaves_the_race_and_nobody_takes_its_place() -> None:
    rows = {10: {"a": 0.1, "c": 0.3, "e": 0.2}, 20: {"e": 0.1, "c": 0.0}, 40: {"e": 0.9, "c": 0.8, "b": 1.0}}
    assert run(FIVE, rows) == (["cea", "ec", "ec"], [("abcde", 10), ("cea", 20), ("ec", 40)])
    rows = {10: dict.fromkeys("abcde", 0.5), 20: {}}
    assert run(FIVE, rows) == (["abcde", "", ""], [("abcde", 10), ("abc", 20)])
