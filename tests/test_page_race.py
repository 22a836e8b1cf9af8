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


def way(name: str, budget: float | None = None) -> "pd.Series[float]":
    summary, _ = judged()
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


@pytest.mark.parametrize("study", ["real11"])
def test_the_tables_are_those_of_the_script(study):
    summary, chosen = judged(study)
    for table in [*JUDGE.tables(summary, chosen), JUDGE.rung_table(*JUDGE.results(PUBLISHED / study))]:
        assert table in PAGE


def test_the_sentences_have_the_numbers_of_the_tables():
    few, more = way("race", 1.5), way("race", 2.0)
    assert (
        f"with 1.5 runs it loses {few['regret']:.2f} points for {100 * few['share']:.0f} % of the cost of tuning all, "
        f"which loses {way('tuning all once')['regret']:.2f}; with 2 runs {more['regret']:.2f} for "
        f"{100 * more['share']:.0f} %. Chance loses {way('random')['regret']:.2f} and ImageNet alone "
        f"{way('ImageNet alone')['regret']:.2f}."
    ) in TEXT
    alone = way("scores alone")["regret"]
    assert f"scores alone** ({alone:.2f}): the differences are {against(1.5)} and {against(2.0)}." in TEXT
    assert (
        f"it loses {regret('race', 'dubai_aerial'):.2f} points on dubai_aerial and {regret('race', 'camvid'):.2f} on "
        f"camvid, where tuning all once loses {regret('tuning all once', 'dubai_aerial'):.2f} and "
        f"{regret('tuning all once', 'camvid'):.2f}."
    ) in TEXT
    few_lost = sorted(regret("race", target) for target in ("fasseg", "voc_animals", "vocalfolds"))
    assert f"On fasseg, voc_animals and vocalfolds it loses {few_lost[0]:.2f} to {few_lost[-1]:.2f}." in TEXT
    assert f"4 runs lose {way('race', 4.0)['regret']:.2f}." in TEXT
    assert f"{more['regret']:.2f} against {way('race of all', 2.0)['regret']:.2f} with 2 runs." in TEXT


def test_the_others_lose_at_most_a_point():
    lost = [target for target in judged()[1]["target"].unique() if regret("race", target) > 1]
    assert sorted(lost) == ["camvid", "dubai_aerial", "fasseg", "voc_animals", "vocalfolds"]
