"""Plans a race by successive halving: who is judged after how many steps, within a budget.

At every rung, the racers are fine-tuned up to a share of the whole schedule, and the better half goes on. The shares of
rungs are powers of two, so that a race with another budget finds what an earlier one has measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from seg_transfer.errors import ConfigError

FIRST_SHARES = tuple(Fraction(1, divisor) for divisor in (1, 2, 4, 8))
"""Shares of the schedule after which racers may be judged for the first time, the longest first."""
PACE_SHARE = Fraction(1, 32)
"""Share of the schedule on which the speed of a family of networks is measured."""


@dataclass(frozen=True)
class Pace:
    """What a racer costs, in the unit of the budget.

    Attributes:
        step: Cost of one step on one fold.
        rung: Cost of every rung on one fold besides its steps: loading, and judging on the held-out images.
    """

    step: float
    rung: float = 0.0


@dataclass(frozen=True)
class Rung:
    """One judgment of a race: so many racers are fine-tuned up to so many steps."""

    steps: int
    n_racers: int


@dataclass(frozen=True)
class Plan:
    """A race before it is run.

    Attributes:
        steps: Steps of the whole schedule.
        racers: Names of the sources that race, the most promising first.
        rungs: The judgments, in order; the best at the last one wins.
        race_cost: Most that the race can cost, in the unit of the budget.
        final_cost: Most that the last fine-tuning can cost, which starts anew on all images.
    """

    steps: int
    racers: tuple[str, ...]
    rungs: tuple[Rung, ...]
    race_cost: float
    final_cost: float


def plan_race(
    entrants: Sequence[str], paces: Mapping[str, Pace], steps: int, budget: float, *, n_folds: int = 1, lanes: int = 1
) -> Plan:
    """Plan the race that a budget allows: with as many racers as possible, and then judged as late as possible.

    Args:
        entrants: Sources, the most promising first: these stay if not all can race.
        paces: Source -> what it costs.
        steps: Steps of the whole schedule.
        budget: What race and last fine-tuning may cost together.
        n_folds: Number of fine-tunings per racer.
        lanes: Number of fine-tunings that run side by side.

    Returns:
        The plan, whose cost is that of its most expensive course or more.

    Raises:
        ConfigError: Not even two racers, judged once at the earliest, are within the budget.

    Example:
        >>> plan = plan_race("abcdef", dict.fromkeys("abcdef", Pace(step=1 / 80)), 80, budget=3)
        >>> "".join(plan.racers), [(rung.steps, rung.n_racers) for rung in plan.rungs]
        ('abcdef', [(10, 6), (20, 3), (40, 2)])
        >>> plan.race_cost, plan.final_cost
        (1.625, 1.0)
    """
    fewest = min(2, len(entrants))
    for n_racers in range(len(entrants), fewest - 1, -1):
        racers = tuple(entrants[:n_racers])
        for share in FIRST_SHARES:
            plan = _plan(racers, paces, steps, share, n_folds, lanes)
            if plan.race_cost + plan.final_cost <= budget:
                return plan
    raise ConfigError(
        f"the budget allows {budget:.4g}, but a race of {fewest} and one fine-tuning to the end take "
        f"{plan.race_cost + plan.final_cost:.4g}"
    )


def _plan(
    racers: tuple[str, ...], paces: Mapping[str, Pace], steps: int, share: Fraction, n_folds: int, lanes: int
) -> Plan:
    rungs = tuple(rungs_of(len(racers), steps, share))
    own = [paces[name] for name in racers]
    cost, before = 0.0, 0
    for rung in rungs:
        # Which racers are dear depends on the number of steps: judging may cost one more than training another.
        dearest = sorted((pace.step * (rung.steps - before) + pace.rung for pace in own), reverse=True)[: rung.n_racers]
        cost += _latest_end([one for one in dearest for _ in range(n_folds)], lanes)
        before = rung.steps
    return Plan(steps, racers, rungs, cost, max(pace.step * steps + pace.rung for pace in own))


def _latest_end(costs: Sequence[float], lanes: int) -> float:
    """Return a bound on when fine-tunings end that start as soon as a lane is free, whatever their order."""
    longest = max(costs)
    return min((sum(costs) - longest) / lanes + longest, math.ceil(len(costs) / lanes) * longest)


def rungs_of(n_racers: int, steps: int, share: Fraction) -> list[Rung]:
    """List the rungs of a race that is judged first after a share of the schedule, and ends with its best two.

    Args:
        n_racers: Number of racers.
        steps: Steps of the whole schedule.
        share: One of `FIRST_SHARES`.

    Example:
        >>> rungs_of(5, 80, Fraction(1, 8))
        [Rung(steps=10, n_racers=5), Rung(steps=20, n_racers=3), Rung(steps=40, n_racers=2)]
        >>> rungs_of(5, 80, Fraction(1, 1))
        [Rung(steps=80, n_racers=5)]
    """
    rungs = [Rung(math.ceil(share * steps), n_racers)]
    while rungs[-1].n_racers > 2 and share < 1:
        share *= 2
        if math.ceil(share * steps) > rungs[-1].steps:  # else, in a short schedule, nothing new would be known
            rungs.append(Rung(math.ceil(share * steps), survivors(rungs[-1].n_racers)))
    return rungs


def run_plan(plan: Plan, judge: Callable[[Sequence[str], int], Mapping[str, float]]) -> list[list[str]]:
    """Go through the rungs of a race: judge the racers at each, and let the better half go on.

    Args:
        plan: The race.
        judge: Takes racers and a step, and returns what each reaches there, higher is better. Racers that it leaves
            out, because they failed, leave the race.

    Returns:
        The racers that were judged at every rung, the best first; of equally good ones, the one that was ahead before,
        and at first the more promising. Rungs after the last racer has left are empty.

    Example:
        >>> plan = plan_race("abcd", dict.fromkeys("abcd", Pace(step=1 / 80)), 80, budget=3)
        >>> run_plan(plan, lambda racers, steps: {name: ord(name) for name in racers})
        [['d', 'c', 'b', 'a'], ['d', 'c']]
    """
    racers, orders = list(plan.racers), list[list[str]]()
    for rung in plan.rungs:
        going_on = racers[: rung.n_racers]
        reached = judge(going_on, rung.steps) if going_on else {}
        racers = sorted((name for name in going_on if name in reached), key=lambda name: -reached[name])
        orders.append(racers)
    return orders


def survivors(n_racers: int) -> int:
    """Return how many racers go on after a rung: the better half, rounded up."""
    return (n_racers + 1) // 2
