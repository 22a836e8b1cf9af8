"""What the pages say of the worth of a race: tables are what the script prints, sentences have its numbers."""

from functools import cache

import pandas as pd
import pytest
from loaded_scripts import script
from page_text import RESULTS_PAGE, ROOT

JUDGE = script("judge_choice")
PUBLISHED = ROOT / "data_manifests/published"
PAGE = RESULTS_PAGE.read_text()
TEXT = " ".join(PAGE.split())


@cache
def judged(study: str = "real11") -> tuple[pd.DataFrame, pd.DataFrame]:
    summary, chosen = JUDGE.judged(PUBLISHED / study)
    return summary, chosen


def way(name: str, budget: float | None = None, study: str = "real11") -> "pd.Series[float]":
    summary, _ = judged(study)
    of_way = summary[summary["way"] == name]
    return (of_way if budget is None else of_way[of_way["budget"] == budget]).iloc[0]


def regret(name: str, target: str) -> float:
    _, chosen = judged()
    of_budget = chosen["budget"].isna() | (chosen["budget"] == JUDGE.SHOWN_BUDGET)
    found = chosen[(chosen["way"] == name) & (chosen["target"] == target) & of_budget]
    return float(found["regret"].item())


def against(budget: float) -> str:
    row = way("race", budget)
    return f"{row['against']:.2f} ({row['against_low']:+.2f} to {row['against_high']:+.2f})"


@pytest.mark.parametrize("study", ["real11", "real11_100"])
def test_the_tables_are_those_of_the_script(study):
    summary, chosen = judged(study)
    for table in [*JUDGE.tables(summary, chosen), JUDGE.rung_table(*JUDGE.results(PUBLISHED / study))]:
        assert table in PAGE


def test_the_sentences_have_the_numbers_of_the_tables():
    few, more = way("race", 1.3), way("race", 1.5)
    costs, all_lose, alone = 100 * few["share"], way("tuning all once")["regret"], way("scores alone")["regret"]
    assert (
        f"for {costs:.0f} % of the cost of fine-tuning all ten sources loses {few['regret']:.2f} points, fine-tuning "
        f"all {all_lose:.2f}, scores alone {alone:.2f}."
    ) in " ".join((ROOT / "README.md").read_text().split())
    n_targets = judged()[1]["target"].nunique()
    chance, imagenet = way("random")["regret"], way("ImageNet alone")["regret"]
    assert (
        f"with 1.3 runs it loses {few['regret']:.2f} points for {costs:.0f} % of the cost of tuning all, and at most 1 "
        f"point on {few['within_one_point']} of {n_targets} targets; with 1.5 runs {more['regret']:.2f} for "
        f"{100 * more['share']:.0f} %. Tuning all loses {all_lose:.2f}, chance {chance:.2f} and ImageNet alone "
        f"{imagenet:.2f}."
    ) in TEXT
    assert f"scores alone** ({alone:.2f}): the differences are {against(1.3)} and {against(1.5)}." in TEXT
    assert (
        f"it loses {regret('race', 'dubai_aerial'):.2f} points on dubai_aerial and {regret('race', 'camvid'):.2f} on "
        f"camvid, where tuning all once loses {regret('tuning all once', 'dubai_aerial'):.2f} and "
        f"{regret('tuning all once', 'camvid'):.2f}."
    ) in TEXT
    few_lost = sorted(regret("race", target) for target in ("fasseg", "voc_animals", "vocalfolds"))
    assert f"On fasseg, voc_animals and vocalfolds it loses {few_lost[0]:.2f} to {few_lost[-1]:.2f}." in TEXT
    assert f"4 runs lose {way('race', 4.0)['regret']:.2f}, and" in TEXT
    both = [way(name, 2.0)["regret"] for name in ("race", "race of all")]
    assert f"{both[0]:.2f} against {both[1]:.2f} with 2 runs." in TEXT


def test_the_others_lose_at_most_a_point():
    lost = [target for target in judged()[1]["target"].unique() if regret("race", target) > 1]
    assert sorted(lost) == ["camvid", "dubai_aerial", "fasseg", "voc_animals", "vocalfolds"]


def test_the_sentences_on_100_images_have_their_numbers():
    lost = {name: way(name, study="real11_100")["regret"] for name in ("scores alone", "random", "tuning all once")}
    few, more = (way("race", budget, "real11_100")["regret"] for budget in (1.3, 2.0))
    assert (
        f"{few:.2f} with 1.3 runs, {more:.2f} with 2; scores alone {lost['scores alone']:.2f}, chance "
        f"{lost['random']:.2f}, tuning all once {lost['tuning all once']:.2f}."
    ) in TEXT
