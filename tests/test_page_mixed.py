"""What the page of the mixed bank says: its tables are what the script prints, its numbers are the stored ones."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from loaded_scripts import script
from page_text import ROOT

from seg_transfer.evaluation import CHANCE, two_way_draws, two_way_interval
from seg_transfer.store.tables import read_rows

MIXED = script("mixed_evaluation")
PAGE = (MIXED.FOLDER / "README.md").read_text()
TEXT = " ".join(word for page in (PAGE, (ROOT / "README.md").read_text()) for word in page.split())
PROJECT = (
    "the default loses {A[last][default][regret].value:.2f} points, chance {A[none][random][regret].value:.2f}, GBC "
    "alone {A[last][gbc][regret].value:.2f}, and no other reading of features does better."
)
SENTENCES = [
    "**Across families, GBC of `stages` loses less than GBC of `last`: open.** It loses "
    "{A[stages][gbc][regret].value:.2f} points, GBC of `last` {A[last][gbc][regret].value:.2f}: a change of "
    "{A[stages][gbc][change].value:+.2f} ({A[stages][gbc][change].low:+.2f} to {A[stages][gbc][change].high:+.2f}).",
    "Chance loses {A[none][random][regret].value:.2f}.",
    "**So do the others: refuted for three, open for three.** The default loses "
    "{A[stages][default][change].value:.2f} points more ({A[stages][default][change].low:.2f} to "
    "{A[stages][default][change].high:.2f}), LogME {A[stages][logme][change].value:.2f} "
    "({A[stages][logme][change].low:.2f} to {A[stages][logme][change].high:.2f}), H-score "
    "{A[stages][h_score][change].value:.2f} ({A[stages][h_score][change].low:.2f} to "
    "{A[stages][h_score][change].high:.2f}): refuted.",
    "N-LEEP ({A[stages][nleep][change].value:+.2f}), kNN ({A[stages][knn][change].value:+.2f}) and the ridge probe "
    "({A[stages][ridge_probe][change].value:+.2f}) are open.",
    "**Within families, `stages` does no harm to the default: not refuted.** Its regret changes by "
    "{W[stages][default][change].value:+.2f} points ({W[stages][default][change].low:+.2f} to "
    "{W[stages][default][change].high:+.2f}).",
    "**Read at stages, the default beats chance and the list by size across families: open against chance, true of "
    "the list.** Its regret minus that of chance is {A[stages][default][over_chance].value:+.2f} points "
    "({A[stages][default][over_chance].low:+.2f} to {A[stages][default][over_chance].high:+.2f}); the list by size "
    "loses {A[none][parameters][regret].value:.2f}, the default {A[stages][default][regret].value:.2f}.",
    "**No reading compares, by the rule:** the default loses {A[last][default][regret].value:.2f} points with "
    "`last`, {A[encoder][default][regret].value:.2f} with `encoder`, {A[coarse][default][regret].value:.2f} with "
    "`coarse`, {A[stages][default][regret].value:.2f} with `stages`.",
    "GBC alone must not decide between families: it loses {A[last][gbc][regret].value:.2f} points, chance "
    "{A[none][random][regret].value:.2f}.",
    "What judges by held-out images changes little with the reading: kNN loses {A[last][knn][regret].value:.2f}, "
    "{A[encoder][knn][regret].value:.2f} and {A[stages][knn][regret].value:.2f} points with `last`, `encoder` and "
    "`stages`, H-score {A[last][h_score][regret].value:.2f}, {A[encoder][h_score][regret].value:.2f} and "
    "{A[stages][h_score][regret].value:.2f}.",
    "Within families the reading hardly matters: the default loses {W[last][default][regret].value:.2f} points "
    "with `last`, {W[stages][default][regret].value:.2f} with `stages`, chance {W[none][random][regret].value:.2f}.",
    "Fine-tuned, lite0_camvid reaches {M[lite0_camvid]:.3f}, lite0_labelmefacade {M[lite0_labelmefacade]:.3f}, "
    "segformer_camvid {M[segformer_camvid]:.3f}, hrnet_labelmefacade {M[hrnet_labelmefacade]:.3f} and unet_camvid "
    "{M[unet_camvid]:.3f}.",
]


@cache
def stored() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_rows(MIXED.FOLDER / "evaluation.parquet", MIXED.EVALUATION)
    return rows


@cache
def facts() -> dict[str, Any]:
    """A (across) or W (within) -> reading -> metric -> measure -> value, low, high, as a format string takes them.

    M has what every network reaches on idd_lite.
    """
    tuned = pd.read_parquet(MIXED.FOLDER / "performance.parquet").query("target == 'idd_lite'")
    nested: dict[str, Any] = {"M": tuned.groupby("source")["miou"].mean()}
    for row in stored():
        part = nested.setdefault(row["part"][0].upper(), {})
        measures = part.setdefault(row["reading"], {}).setdefault(row["metric"], {})
        measures[row["measure"]] = SimpleNamespace(value=row["value"], low=row["low"], high=row["high"])
    return nested


@pytest.mark.parametrize("words", [PROJECT, *SENTENCES])
def test_what_the_pages_say(words: str) -> None:
    assert words.format(**facts()) in TEXT


def test_the_page_has_every_table_that_the_script_prints() -> None:
    tuned = pd.read_parquet(MIXED.FOLDER / "performance.parquet")
    for title, columns, rows in (*MIXED.tables(stored()), MIXED.family_table(tuned)):
        assert MIXED.markdown(columns, rows) in PAGE, title


def test_the_stored_values_follow_from_the_stored_scores_and_fine_tunings() -> None:
    again = pd.DataFrame(MIXED.evaluated(MIXED.published(), n_draws=1))
    pd.testing.assert_series_equal(
        again["value"], pd.DataFrame(stored())["value"], check_exact=False, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("reading", ["last", "stages"])
def test_the_stored_intervals_of_the_default_follow_too(reading: str) -> None:
    pairs = MIXED.published()
    draws = two_way_draws(pairs, {"default": [f"{reading}: gbc", f"{reading}: logme"]})["across"]
    over_chance = 100 * (draws["default", "regret"] - draws[CHANCE, "regret"])
    own = facts()["A"][reading]["default"]["over_chance"]
    assert [own.value, own.low, own.high] == pytest.approx(list(two_way_interval(over_chance)), abs=1e-9)


def test_the_verdicts_follow_from_the_intervals() -> None:
    across, within = facts()["A"], facts()["W"]
    changes = {name: across["stages"][name]["change"] for name in ("gbc", *MIXED.OF_QUESTION, "default")}
    assert {name for name, change in changes.items() if change.low > 0} == {"default", "logme", "h_score"}
    assert not [name for name, change in changes.items() if change.high < 0]
    assert within["stages"]["default"]["change"].low < 0 < within["stages"]["default"]["change"].high
    assert across["stages"]["default"]["over_chance"].low < 0 < across["stages"]["default"]["over_chance"].high
    assert across["last"]["default"]["over_chance"].high < 0
    regrets = {name: across[name]["default"]["regret"].value for name in MIXED.READING_NAMES}
    assert min(regrets, key=lambda name: regrets[name]) == "last"


def test_the_question_is_older_than_every_score() -> None:
    scores = pd.read_parquet(MIXED.FOLDER / "scores.parquet")
    asked = pd.Timestamp("2026-11-29T17:15:53+00:00")  # when question.md was committed
    assert pd.to_datetime(scores["created_utc"]).min() > asked


def test_one_family_is_ahead() -> None:
    tuned = pd.read_parquet(MIXED.FOLDER / "performance.parquet")
    best = tuned.groupby(["target", "family", "source"])["miou"].mean().groupby("target").idxmax().str[1]
    assert (best == "lite0").sum() == 6
