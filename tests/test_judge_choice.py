"""The judgment of `choose`: what races cost and choose, by hand."""

from typing import Any

import pandas as pd
import pytest
from loaded_scripts import script

from seg_transfer.selection.race_plan import FIRST_SHARES, Pace, plan_race

judge_choice = script("judge_choice")


@pytest.fixture
def races() -> pd.DataFrame:
    """Three sources of one target: `late` is the best at the end of its schedule of 80 steps, `early` before."""
    reached = {
        "late": (0.1, 0.2, 0.3, 0.6),
        "early": (0.3, 0.4, 0.5, 0.5),
        "poor": (0.2, 0.2, 0.2, 0.2),
    }
    return pd.DataFrame(
        [
            {
                "target": "city", "source": name, "entry": entry, "rank": rank, "steps": steps, "of_steps": 80,
                "miou": miou, "n_held_out": 8, "seconds": 5.0, "scoring_seconds": 2.0,
            }
            for (name, course), entry, rank in zip(reached.items(), (2, 1, None), (2, 1, 3), strict=True)
            for steps, miou in zip((10, 20, 40, 80), course, strict=True)
        ]
    )  # fmt: skip


@pytest.fixture
def truth() -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = [
        ("late", "city", 0.62, 0.4, 1.0),
        ("early", "city", 0.60, 0.5, 3.0),
        ("poor", "city", 0.50, 0.6, 2.0),
        ("scratch", "city", 0.55, None, None),
        ("late", "town", 0.3, 0.4, 1.0),
        ("early", "town", 0.1, 0.5, 1.0),
        ("poor", "town", 0.2, 0.6, 1.0),
        ("scratch", "town", 0.2, None, None),
    ]
    return pd.DataFrame(rows, columns=["source", "target", "miou", "own_miou", "nleep"])


def test_a_race_costs_what_its_racers_train():
    plan = plan_race("abcd", dict.fromkeys("abcd", Pace(1 / 80)), 80, 2.5)
    assert [(rung.steps, rung.n_racers) for rung in plan.rungs] == [(20, 4), (40, 2)]
    assert judge_choice.cost_of(plan) == pytest.approx(1 + 4 * 20 / 80 + 2 * 20 / 80)
    assert judge_choice.rung_steps(80) == [10, 20, 40, 80]
    assert len(FIRST_SHARES) == 4


def test_a_late_judgment_finds_the_one_that_is_better_at_the_end(races):
    assert judge_choice.raced(races, ["early", "late"], 3.0) == ("late", 3.0)
    assert judge_choice.raced(races, ["early", "late"], 2.0) == ("early", 2.0)


def test_every_way_chooses_what_it_should(races, truth):
    chosen = judge_choice.choices_of(races, truth).set_index(["way", "budget"])
    regret = {index: round(value, 9) for index, value in chosen["regret"].items() if index[1] != index[1]}
    by_way = {way: value for (way, _), value in regret.items()}
    assert by_way == {
        "tuning all once": 0.0,
        "scores alone": 2.0,
        "N-LEEP alone": 2.0,
        "best elsewhere": 0.0,
        "own mIoU": 12.0,
        "random": 4.666666667,
        "ImageNet alone": 7.0,
    }
    assert chosen.loc[("race", 2.0), "chosen"] == "early"
    assert chosen.loc[("race", 3.0), "chosen"] == "late"
    # Three scores of two seconds each cost 0.3 of a run of 20 seconds.
    assert chosen.loc[("race", 3.0), "runs"] == pytest.approx(3.3)
    assert chosen.loc[("scores alone", float("nan")), "runs"].item() == pytest.approx(1.3)


def test_tables_say_what_every_way_costs_and_loses(races, truth):
    chosen = judge_choice.choices_of(races, truth)
    summary = pd.DataFrame(
        [
            ("race", 3.0, 3.3, 1.1, 0.0, 0.0, 0.0, 1, -2.0, -3.0, 0.1),
            ("scores alone", float("nan"), 1.0, 1 / 3, 4.667, 4.0, 5.0, 0, 0.0, 0.0, 0.0),
        ],
        columns=[
            *("way", "budget", "runs", "share", "regret", "low", "high", "within_one_point"),
            *("against", "against_low", "against_high"),
        ],
    )
    ways, by_target = judge_choice.tables(summary, chosen)
    assert ways.splitlines()[2:] == [
        "| race, 3 runs | 3.30 | 110 % | 0.00 (0.00 to 0.00) | 1 of 1 | -2.00 (-3.00 to +0.10) |",
        "| scores alone | 1.00 | 33 % | 4.67 (4.00 to 5.00) | 0 of 1 |  |",
    ]
    assert by_target.splitlines()[0].startswith("| target | race | race of all | tuning all once | scores alone |")
    assert by_target.splitlines()[2].startswith("| city | 2.00 | 2.00 | 0.00 | 2.00 | 2.00 | 0.00 | 12.00 |")
