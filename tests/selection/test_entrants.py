"""Which sources race: all that scores do not rule out, the best of every family first."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from score_rows import row

from seg_transfer.evaluation import Ranking, ranking_of
from seg_transfer.selection.entrants import entrants

OPPOSITE = (-1.0, 1.0, -0.5, 0.5)
"""Replicates that move against those of `row`; others of one pattern move together, and their difference is exact."""


def ranking(
    scores: Mapping[str, Any],
    families: Mapping[str, str] | None = None,
    slope: float | None = None,
    alpha: float = 0.05,
) -> Ranking:
    """By gbc, of rows, or of scores whose differences are exact."""
    rows = {name: {"gbc": one if isinstance(one, dict) else row(one)} for name, one in scores.items()}
    facts = {name: {"family": family} for name, family in (families or {}).items()}
    return ranking_of("city", "gbc", rows, {}, alpha, facts, slope)


def lead(scores: Mapping[str, float], name: str) -> float:
    """How far a source is behind the first, in standard deviations."""
    values = np.array(list(scores.values()))
    return float((values.max() - scores[name]) / values.std())


def slope_for(confidence: float, scores: Mapping[str, float], name: str) -> float:
    """The slope with which the first leads this source with this confidence."""
    return math.log(confidence / (1 - confidence)) / lead(scores, name)


def test_a_source_that_is_tied_for_first_enters_and_clear_losers_stay_out() -> None:
    # The difference of a and b has a standard error of 1.
    found = ranking({"a": row(-3.0), "b": row(-3.5, groups=OPPOSITE), "c": row(-9.0), "d": row(-10.0)})
    assert found.tied == ("a", "b")
    assert entrants(found) == ("a", "b")


@pytest.mark.parametrize(("behind", "expected"), [(1.95, "ab"), (1.97, "a")])
def test_a_tie_ends_at_two_standard_errors(behind: float, expected: str) -> None:
    far = {"y": -900.0, "z": -1000.0}
    scores = {"a": row(-3.0), "b": row(-3.0 - behind, groups=OPPOSITE), **far}
    found = ranking(scores, families=dict.fromkeys("ab", "near") | dict.fromkeys("yz", "far"))
    assert "".join(entrants(found)) == expected[:1] + "y" + expected[1:]


def test_a_source_enters_that_may_well_have_the_highest_score_although_it_is_not_tied() -> None:
    # One standard error behind: it is the higher one in 16 % of the draws, 1.7 behind in 4 %.
    families = {"a": "x", "b": "x", "c": "y"}
    for behind, expected in ((1.0, ("a", "c", "b")), (1.7, ("a", "c"))):
        scores = {"a": row(-3.0), "b": row(-3.0 - behind, groups=OPPOSITE), "c": row(-9.0)}
        found = ranking(scores, families, alpha=0.5)
        assert found.tied == ("a", "c")
        assert entrants(found) == expected


@pytest.mark.parametrize(("chance", "expected"), [(0.251, "acb"), (0.249, "ac")])
def test_a_source_enters_if_a_quarter_of_the_rivals_so_far_behind_won(chance: float, expected: str) -> None:
    scores = {"a": -3.0, "b": -4.0, "far": -9.0}
    slope = slope_for(1 - chance, scores, "b")
    found = ranking({**scores, "c": -12.0}, {**dict.fromkeys(scores, "x"), "c": "y"}, slope)
    assert "".join(entrants(found)) == expected


def test_where_a_lead_meant_nothing_or_the_opposite_all_enter() -> None:
    scores = {"a": -3.0, "b": -4.0, "c": -9.0, "d": -20.0}
    for slope in (0.0, -0.5):
        assert set(entrants(ranking(scores, slope=slope))) == set(scores)
    assert entrants(ranking(scores, slope=-0.5)) == ("a", "d", "c", "b")  # the more promising first


@pytest.mark.parametrize(("confidence", "expected"), [(0.949, ("a", "b")), (0.951, ("a",))])
def test_the_second_enters_unless_the_lead_over_it_is_certain(confidence: float, expected: tuple[str, ...]) -> None:
    scores = {"a": -3.0, "b": -9.0, "c": -10.0}
    slope = slope_for(confidence, scores, "b")
    found = ranking(scores, slope=slope)
    assert found.table["probability"].tolist() == [1.0, 0.0, 0.0]
    assert entrants(found) == expected


def test_without_published_studies_the_second_always_enters() -> None:
    assert entrants(ranking({"a": -3.0, "b": -9.0, "c": -10.0})) == ("a", "b")
    assert entrants(ranking({"a": -3.0, "b": -900.0}, slope=9.0)) == ("a", "b")  # two are always two deviations apart


def test_the_best_of_every_family_comes_first_and_then_what_their_scores_promise() -> None:
    scores = {
        "a": row(-3.0),
        "b": row(-4.5, groups=OPPOSITE),  # 1.5 standard errors behind: it is the best in 7 % of the draws
        "c": row(-9.0),
        "d": row(-9.1, groups=OPPOSITE),  # nearly equal
        "e": row(-50.0),
        "f": row(-60.0),
    }
    found = ranking(scores, dict(zip("abcdef", "xxyyzz", strict=True)))
    assert found.best_of_families == ("a", "c", "e")
    assert entrants(found) == ("a", "c", "e", "d", "b")
    assert entrants(ranking(scores, dict.fromkeys("abcdef", "x"))) == ("a", "b")


def test_published_studies_count_as_much_as_the_scores_of_the_target() -> None:
    """P(best) is 0.35 for b, 0 for d, 0.16 for f; the chances by published studies are 0.39, 0.41, 0.23."""
    scores = {
        "x": {"a": row(-3.0), "b": row(-3.4, groups=OPPOSITE), "b_out": row(-5.0)},
        "y": {"c": row(-3.0), "d": row(-4.0), "d_out": row(-9.0)},
        "z": {"e": row(-3.0), "f": row(-4.0, groups=OPPOSITE), "f_out": row(-5.0)},
    }
    families = {name: family for family, members in scores.items() for name in members}
    found = ranking(scores["x"] | scores["y"] | scores["z"], families, slope=1.0)
    table = found.table.set_index("source").loc[["b", "d", "f"]]
    assert table["probability"].tolist() == pytest.approx([0.345, 0, 0.159], abs=0.01)
    assert (1 - table["confidence"]).tolist() == pytest.approx([0.386, 0.406, 0.227], abs=0.001)
    assert entrants(found) == ("a", "c", "e", "b", "d", "f")


def test_one_source_of_each_of_two_families_is_enough() -> None:
    assert entrants(ranking({"a": -3.0, "b": -9.0, "c": -10.0}, {"a": "x", "b": "x", "c": "y"})) == ("a", "c")
    assert entrants(ranking({"a": -3.0, "b": -9.0}, {"a": "x", "b": "y"})) == ("a", "b")


def test_sources_of_unknown_family_are_one_family() -> None:
    found = ranking({"a": -3.0, "b": -4.0, "c": -9.0, "d": -10.0}, {"b": "x", "c": "y"})
    assert entrants(found) == ("a", "b", "c")


def test_without_standard_errors_only_equal_scores_and_published_studies_let_others_enter() -> None:
    scores = {name: row(score, None) for name, score in {"a": -3.0, "b": -3.0, "c": -3.1, "d": -9.0}.items()}
    assert entrants(ranking(scores)) == ("a", "b")
    slope = 0.3
    confidence = 1 / (1 + math.exp(-slope * lead({"a": -3.0, "b": -3.0, "c": -3.1, "d": -9.0}, "d")))
    assert confidence < 0.75
    assert entrants(ranking(scores, slope=slope)) == ("a", "b", "c", "d")
    assert entrants(ranking(scores, slope=10 * slope)) == ("a", "b", "c")


def test_without_standard_errors_published_studies_alone_order_the_entrants() -> None:
    scores = {"a": -3.0, "b": -4.0, "b_out": -5.0, "c": -13.0, "d": -14.0, "d_out": -19.0}
    families = dict(zip(scores, "xxxyyy", strict=True))
    found = ranking({name: row(score, None) for name, score in scores.items()}, families, slope=0.8)
    assert entrants(found) == ("a", "c", "d", "b")


def test_all_that_are_equal_enter_in_the_order_of_names() -> None:
    for error in (0.5, None):
        assert entrants(ranking({name: row(-3.0, error) for name in "cab"})) == ("a", "b", "c")


@pytest.mark.parametrize("slope", [None, 0.7])
def test_one_source_races_alone(slope: float | None) -> None:
    assert entrants(ranking({"a": -3.0}, slope=slope)) == ("a",)


def test_the_mean_rank_lets_those_enter_that_its_draws_do_not_rule_out() -> None:
    rows = {
        "a": {"gbc": row(-3.0), "logme": row(-1.0, 0.01)},
        "b": {"gbc": row(-2.5, groups=OPPOSITE), "logme": row(-2.0, 0.01)},
        "c": {"gbc": row(-90.0), "logme": row(-30.0, 0.01)},
    }
    found = ranking_of("city", "rank_mean", rows, {})
    assert found.scores == {"a": -1.5, "b": -1.5, "c": -3.0}
    assert entrants(found) == ("a", "b")


@pytest.mark.parametrize("slope", [None, 0.6, -0.6])
@pytest.mark.parametrize("seed", range(4))
def test_entrants_of_random_rankings(seed: int, slope: float | None) -> None:
    """Against a flat reading of the table, in any order of rows, on any scale, and with the error as the unit."""
    rng = np.random.default_rng(seed)
    values, patterns = rng.normal(-5, 1, size=9), rng.normal(size=(9, 5))
    families = {f"s{number}": "xyz"[number % 3] for number in range(9)}

    def ranked(scale: float, order: list[int]) -> Ranking:
        rows = {f"s{index}": row(scale * values[index], 0.8 * scale, groups=patterns[index]) for index in order}
        return ranking(rows, families, slope)

    found = ranked(1.0, list(range(9)))
    table = found.table.set_index("source")
    may_win = table["tied"] | (table["probability"] > 0.05) | (1 - table["confidence"] > 0.25)
    chosen = entrants(found)
    assert set(chosen) == set(table.index[may_win]) | set(found.best_of_families)
    assert len(chosen) == len(set(chosen))
    assert chosen[:3] == found.best_of_families
    assert entrants(ranked(100.0, list(range(9)))) == chosen
    assert entrants(ranked(1.0, list(range(9))[::-1])) == chosen
