"""The ranking of the sources of a target: numbers, sentences, text, HTML and plain data."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from score_rows import by_gbc, row

from seg_transfer.evaluation import plain_rows, ranking_of, ranking_sentences, ranking_text_tables

DASH = "\N{EN DASH}"
HOSTILE = "</script><img src=x onerror=alert(1)>"


def test_best_first_with_differences_and_errors():
    ranking = by_gbc(low=row(-9.0), high=row(-3.0, groups=(1, -1, -0.5, 0.5)), mid=row(-3.5, 0.25))
    assert ranking.best == "high"
    assert ranking.table["source"].tolist() == ["high", "mid", "low"]
    assert ranking.table["rank"].tolist() == [1, 2, 3]
    assert ranking.table["difference"].tolist() == [0, 0.5, 6]
    np.testing.assert_allclose(ranking.table["standard_error"], [0.5, 0.25, 0.5])
    assert ranking.scores == {"high": -3.0, "mid": -3.5, "low": -9.0}
    assert ranking.tied == ("high", "mid")


def test_equal_scores_share_a_rank_in_the_order_of_names():
    table = by_gbc(b=row(1.0), a=row(1.0), c=row(0.5)).table
    assert list(zip(table["rank"], table["source"], strict=True)) == [(1, "a"), (1, "b"), (3, "c")]


def test_sentences_give_advice_certainty_cost_and_skipped_sources():
    lines = ranking_sentences(by_gbc(a=row(-3.0), b=row(-9.0)))
    assert lines[0] == "Fine-tune a: first of 2 for city by gbc."
    assert lines[1] == "It is the best with probability 1.00; no other source is tied with it."
    assert lines[2] == "40 images, 40000 pixels, 0 s."
    assert lines[3] == "Skipped old: weights missing."


def test_a_tie_states_the_number_of_images_that_would_resolve_it():
    lines = ranking_sentences(by_gbc(a=row(-3.0), b=row(-3.5, groups=(-1.0, 1.0, -0.5, 0.5))))
    # The difference has a standard error of 1: 40 * (1.96 / 0.5) ** 2
    assert lines[1].endswith("; tied with it: b. About 615 images would distinguish them.")
    hopeless = ranking_sentences(by_gbc(a=row(-3.0), b=row(-3.01, groups=(-1.0, 1.0, -0.5, 0.5))))
    assert "use either" in hopeless[1]


def test_no_number_of_images_is_stated_where_none_follows():
    equal = ranking_sentences(by_gbc(a=row(-3.0), b=row(-3.0), c=row(-3.5, groups=(-1.0, 1.0, -0.5, 0.5))))
    assert equal[1].endswith("; tied with it: b, c.")
    ranking = by_gbc(a=row(-3.0), b=row(-3.5, groups=(-1.0, 1.0, -0.5, 0.5)))
    table = ranking.table.assign(difference_error=ranking.table["difference"] / 2)  # 40 * (1.96 / 2) ** 2 are fewer
    assert ranking_sentences(replace(ranking, table=table))[1].endswith("; tied with it: b.")


def test_without_standard_errors_certainty_is_unknown():
    lines = ranking_sentences(by_gbc(a=row(-3.0, None), b=row(-9.0, None)))
    assert lines[1].startswith("Its certainty is unknown")
    assert "n/a" in str(by_gbc(a=row(-3.0, None), b=row(-9.0, None)))


def with_slope(slope, **scores):
    rows = {name: {"gbc": row(score)} for name, score in scores.items()}
    return ranking_of("city", "gbc", rows, {}, slope=slope)


def test_a_lead_is_said_in_the_share_of_published_cases_that_it_won():
    # The standard deviation of -3, -4, -5 is sqrt(2 / 3).
    ranking = with_slope(0.7, low=-5.0, high=-3.0, mid=-4.0)
    one, two = (1 / (1 + np.exp(-0.7 * lead * np.sqrt(1.5))) for lead in (1, 2))
    np.testing.assert_allclose(ranking.table["confidence"], [one, one, two])
    said = "In published studies, a lead like this over the second meant a higher mIoU in 70 % of the cases."
    assert ranking_sentences(ranking)[2] == said
    assert said in str(ranking)
    assert said in ranking._repr_html_()
    plain = json.loads(json.dumps(ranking.as_dict()))["ranking"]
    assert [entry["confidence"] for entry in plain] == ranking.table["confidence"].tolist()
    backwards = ranking_sentences(with_slope(-0.7, low=-5.0, high=-3.0, mid=-4.0))
    assert backwards[2].endswith("a higher mIoU in 30 % of the cases.")


@pytest.mark.parametrize(
    ("slope", "scores", "confidence"),
    [
        (None, {"a": -3.0, "b": -4.0, "c": -5.0}, None),  # a metric that no published study has
        (0.7, {"a": -3.0}, None),
        (0.7, {"a": -3.0, "b": -4.0}, None),  # the lead of two is always two standard deviations
        (0.7, {"a": -3.0, "b": -3.0, "c": -5.0}, 0.5),
        (0.7, {"a": -3.0, "b": -3.0, "c": -3.0}, 0.5),
    ],
)
def test_nothing_is_said_of_a_lead_that_says_nothing(slope, scores, confidence):
    ranking = with_slope(slope, **scores)
    assert plain_rows(ranking.table)[0]["confidence"] == confidence
    assert "published studies" not in str(ranking)


def test_confidence_changes_nothing_else():
    columns = ["source", "rank", "score", "tied", "probability"]
    scores = {"a": -3.0, "b": -4.0, "c": -5.0}
    assert with_slope(0.7, **scores).table[columns].equals(with_slope(None, **scores).table[columns])


def test_the_mean_rank_is_shown_beside_its_parts():
    rows = {
        "a": {"gbc": row(-3.0), "logme": row(-1.0, 0.01)},
        "b": {"gbc": row(-9.0), "logme": row(-2.0, 0.01)},
    }
    ranking = ranking_of("city", "rank_mean", rows, {})
    assert ranking.best == "a"
    text = str(ranking)
    assert re.search(r"1 +a +1\.0 +-3\.00 ± 0\.50 +-1\.000 ± 0\.010", text)
    assert "by rank_mean (the mean rank by gbc and logme)" in text
    assert ranking.table["logme"].tolist() == [-1.0, -2.0]


def test_names_stay_text_everywhere():
    rows = {HOSTILE: {"gbc": row(-3.0)}, "[red]b[/red]": {"gbc": row(-9.0)}}
    ranking = ranking_of("city", "gbc", rows, {HOSTILE + "2": HOSTILE})
    page = ranking._repr_html_()
    assert "<img" not in page
    assert "&lt;img" in page
    assert "[red]b[/red]" in str(ranking)
    assert json.loads(json.dumps(ranking.as_dict()))["best"] == HOSTILE


FACTS = {
    "big": {"parameters": 65_859_379, "gflops": 187.43, "license": "MIT"},
    "small": {"parameters": 15_872, "gflops": None, "license": None},
}


def with_facts(**facts):
    rows = {name: {"gbc": row(score)} for name, score in (("big", -3.0), ("small", -9.0), ("old", -10.0))}
    return ranking_of("city", "gbc", rows, {}, facts=facts)


def test_what_a_source_costs_stands_beside_its_score():
    ranking = with_facts(**FACTS)
    (table,) = ranking_text_tables(ranking)
    assert table.columns[-4:] == ["s", "parameters", "GFLOPs", "license"]
    assert [cells[-3:] for cells in table.rows] == [["65.9 M", "187", "MIT"], ["15.9 k", DASH, DASH], [DASH] * 3]
    assert ranking_sentences(ranking)[3] == "big: 65.9 M parameters, 187 GFLOPs, license MIT."
    plain = json.loads(json.dumps(ranking.as_dict()))["ranking"]
    assert [[one[fact] for fact in ("parameters", "gflops", "license")] for one in plain] == [
        [65_859_379, 187.43, "MIT"],
        [15_872, None, None],
        [None, None, None],
    ]


def test_costs_decide_nothing():
    columns = ["source", "score", "tied", "probability"]
    assert with_facts(**FACTS).table[columns].equals(with_facts().table[columns])


def test_a_column_of_unknown_costs_is_left_out():
    (table,) = ranking_text_tables(with_facts(big={"license": "MIT"}))
    assert table.columns[-2:] == ["s", "license"]
    (table,) = ranking_text_tables(with_facts())
    assert table.columns[-1] == "s"
    assert ranking_sentences(with_facts())[2].startswith("40 images")


def test_one_source_is_ranked_alone():
    assert ranking_sentences(by_gbc(a=row(-3.0)))[1] == "It is the only source that could be ranked."


@pytest.mark.parametrize(
    ("n_images", "reported"), [(40, "40 images, 40000 pixels, 0 s."), (100, "enough: 60 more were not needed")]
)
def test_images_saved_by_a_budget_are_stated(n_images, reported):
    from dataclasses import replace

    assert reported in ranking_sentences(replace(by_gbc(a=row(-3.0), b=row(-9.0)), of_images=n_images))[2]
