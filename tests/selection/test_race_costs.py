"""What a planned race costs at most: by hand, and against every course that it can take."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.errors import ConfigError
from seg_transfer.selection.race_plan import FIRST_SHARES, Pace, Plan, Rung, plan_race, rungs_of

NAMES = "abcdefghij"


def of_runs(n: int) -> dict[str, Pace]:
    """Racers that cost one for the whole schedule of 80 steps, and nothing besides."""
    return dict.fromkeys(NAMES[:n], Pace(step=1 / 80))


def pairs(rungs: Sequence[Rung]) -> list[tuple[int, int]]:
    return [(rung.steps, rung.n_racers) for rung in rungs]


def test_costs_by_hand() -> None:
    # 10 steps of six, then 10 more of three, then 20 more of two: 60 + 30 + 40 of 80 steps, and 80 at the end.
    plan = plan_race("abcdef", of_runs(6), 80, budget=2.625)
    assert pairs(plan.rungs) == [(10, 6), (20, 3), (40, 2)]
    assert (plan.race_cost, plan.final_cost) == (1.625, 1.0)
    # The same with two units for every judgment, and as many for the last fine-tuning.
    plan = plan_race("abcdef", dict.fromkeys("abcdef", Pace(step=1, rung=2)), 80, budget=300)
    assert pairs(plan.rungs) == [(10, 6), (20, 3), (40, 2)]
    assert (plan.race_cost, plan.final_cost) == (130 + 2 * 11, 82)


def test_the_dearest_may_win_every_rung() -> None:
    paces = {"a": Pace(1), "b": Pace(3), "c": Pace(2)}
    plan = plan_race("abc", paces, 80, budget=360)
    assert pairs(plan.rungs) == [(10, 3), (20, 2)]
    assert plan.race_cost == 10 * (1 + 3 + 2) + 10 * (3 + 2)
    assert plan.final_cost == 80 * 3
    assert plan_race("bca", paces, 80, budget=360).race_cost == plan.race_cost


def test_judging_may_cost_more_than_steps() -> None:
    paces = {"a": Pace(1), "b": Pace(1), "c": Pace(0.1, 50), "d": Pace(0.1, 50)}
    plan = plan_race("abcd", paces, 80, budget=310)
    assert pairs(plan.rungs) == [(10, 4), (20, 2)]
    assert plan.race_cost == pytest.approx((10 + 10 + 51 + 51) + (51 + 51))
    assert plan.final_cost == 80


def courses(names: Sequence[str], rungs: Sequence[Rung]) -> Iterator[list[tuple[str, ...]]]:
    """All ways in which racers can survive."""
    for first in itertools.combinations(names, rungs[0].n_racers):
        for rest in courses(first, rungs[1:]) if len(rungs) > 1 else [[]]:
            yield [first, *rest]


def slow_cost(course: Sequence[Sequence[str]], plan: Plan, paces: Mapping[str, Pace], n_folds: int) -> float:
    total, before = 0.0, 0
    for racers, rung in zip(course, plan.rungs, strict=True):
        jobs = [paces[name].step * (rung.steps - before) + paces[name].rung for name in racers for _ in range(n_folds)]
        total, before = total + sum(jobs), rung.steps
    return total


SPEEDS = st.floats(0.001, 10)
RACES = {
    "paces": st.lists(st.builds(Pace, SPEEDS, st.just(0.0) | st.floats(0, 100)), min_size=1, max_size=6),
    "steps": st.integers(1, 200),
    "share_of_all": st.floats(0.05, 1.2),
}


def race(paces: Sequence[Pace], steps: int, share_of_all: float) -> tuple[dict[str, Pace], float]:
    """Racers, and a budget that may suffice for them."""
    total = sum(steps * pace.step + pace.rung for pace in paces)
    return dict(zip(NAMES, paces, strict=False)), share_of_all * (total + max(pace.rung for pace in paces))


@given(**RACES, n_folds=st.sampled_from([1, 2]))
def test_no_course_of_a_race_costs_more_than_its_plan_says(paces, steps, share_of_all, n_folds) -> None:
    by_name, budget = race(paces, steps, share_of_all)
    try:
        plan = plan_race(list(by_name), by_name, steps, budget, n_folds=n_folds)
    except ConfigError:
        return
    costs = [slow_cost(one, plan, by_name, n_folds) for one in courses(plan.racers, plan.rungs)]
    assert max(costs) <= plan.race_cost * (1 + 1e-12)
    assert plan.final_cost == max(by_name[name].step * steps + by_name[name].rung for name in plan.racers)
    assert plan.race_cost + plan.final_cost <= budget


@given(st.lists(SPEEDS, min_size=1, max_size=6), st.floats(0, 10), st.integers(1, 200), st.sampled_from([1, 2]))
def test_a_plan_costs_what_its_dearest_course_costs(speeds, judging, steps, n_folds) -> None:
    by_name = {name: Pace(speed, judging * speed) for name, speed in zip(NAMES, speeds, strict=False)}
    for share in FIRST_SHARES:
        rungs = rungs_of(len(speeds), steps, share)
        enough = sum(speeds) * n_folds * (rungs[-1].steps + judging * len(rungs)) + max(speeds) * (steps + judging)
        plan = plan_race(list(by_name), by_name, steps, 1.001 * enough, n_folds=n_folds)
        costs = [slow_cost(one, plan, by_name, n_folds) for one in courses(plan.racers, plan.rungs)]
        assert plan.race_cost == pytest.approx(max(costs), rel=1e-12)
