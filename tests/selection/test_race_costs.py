"""What a planned race costs at most: by hand, and against every course that it can take."""

import itertools
import math
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


def longest(jobs: Sequence[float], lanes: int) -> float:
    """When jobs end that start as soon as a lane is free, in their worst order."""
    if lanes == 1:
        return sum(jobs)
    ends = []
    for order in set(itertools.permutations(jobs)):
        busy = [0.0] * lanes
        for job in order:
            busy[busy.index(min(busy))] += job
        ends.append(max(busy))
    return max(ends)


def slow_cost(
    course: Sequence[Sequence[str]], plan: Plan, paces: Mapping[str, Pace], n_folds: int, lanes: int
) -> float:
    total, before = 0.0, 0
    for racers, rung in zip(course, plan.rungs, strict=True):
        jobs = [paces[name].step * (rung.steps - before) + paces[name].rung for name in racers for _ in range(n_folds)]
        total, before = total + longest(jobs, lanes), rung.steps
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
    costs = [slow_cost(one, plan, by_name, n_folds, 1) for one in courses(plan.racers, plan.rungs)]
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
        costs = [slow_cost(one, plan, by_name, n_folds, 1) for one in courses(plan.racers, plan.rungs)]
        assert plan.race_cost == pytest.approx(max(costs), rel=1e-12)


@pytest.mark.parametrize("lanes", [2, 3, 4])
@pytest.mark.parametrize("n_folds", [1, 2])
@pytest.mark.parametrize("speeds", [[1, 1, 1], [1, 2, 3], [1, 1, 5], [0.5, 4, 4]])
def test_no_order_in_which_lanes_take_racers_costs_more_than_the_plan_says(speeds, n_folds, lanes) -> None:
    by_name = dict(zip(NAMES, map(Pace, speeds), strict=False))
    plan = plan_race(list(by_name), by_name, 80, budget=1e6, n_folds=n_folds, lanes=lanes)
    costs = [slow_cost(one, plan, by_name, n_folds, lanes) for one in courses(plan.racers, plan.rungs)]
    assert max(costs) <= plan.race_cost * (1 + 1e-12)


def test_lanes_by_hand() -> None:
    def cost(n: int, lanes: int, **options: int) -> float:
        return plan_race(NAMES[:n], of_runs(n), 80, budget=99, lanes=lanes, **options).race_cost

    assert [cost(4, lanes) for lanes in (1, 2, 4, 8)] == [4, 2, 1, 1]
    assert cost(4, 2, n_folds=2) == cost(2, 1, n_folds=2) == cost(8, 2) == 4
    assert cost(3, 2) == 2  # one of three waits for another
    unlike = {"a": Pace(1 / 80), "b": Pace(4 / 80), "c": Pace(1 / 80), "d": Pace(1 / 80)}
    assert 5 <= plan_race("abcd", unlike, 80, budget=99, lanes=2).race_cost <= 5.5  # b may start last
    assert plan_race("abcd", unlike, 80, budget=99, lanes=4).race_cost == 4


@given(**RACES, lanes=st.integers(1, 5))
def test_more_lanes_never_cost_more_and_two_folds_cost_twice_as_much(paces, steps, share_of_all, lanes) -> None:
    by_name, _ = race(paces, steps, share_of_all)

    def all_the_way(**options: int) -> Plan:
        return plan_race(list(by_name), by_name, steps, budget=math.inf, **options)

    one, more = all_the_way(lanes=lanes), all_the_way(lanes=lanes + 1)
    assert more.race_cost <= one.race_cost * (1 + 1e-12)
    assert more.final_cost == one.final_cost
    alone, twice = all_the_way(), all_the_way(n_folds=2)
    assert twice.race_cost == pytest.approx(2 * alone.race_cost, rel=1e-12)
    assert twice.final_cost == alone.final_cost
    longest_of_all = max(pace.step * steps + pace.rung for pace in paces)
    assert all_the_way(lanes=2 * len(paces), n_folds=2).race_cost == pytest.approx(longest_of_all, rel=1e-12)
