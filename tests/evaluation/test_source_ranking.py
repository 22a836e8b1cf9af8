"""The ranking of the sources of a target: numbers, sentences, text, HTML and plain data."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from seg_transfer.evaluation import plain_rows, ranking_of, ranking_sentences, ranking_text_tables

DASH = "\N{EN DASH}"
HOSTILE = "</script><img src=x onerror=alert(1)>"


def row(score, error=0.5, seconds=1.0, groups=(1.0, -1.0, 0.5, -0.5)):
    """A stored score whose replicates spread as its standard error says."""
    spread = np.array(groups) / np.sqrt(3 * np.var(groups))
    return {
        "score": score,
        "standard_error": error,
        "replicates": None if error is None else (score + error * spread).tolist(),
        "seconds": seconds,
        "n_images": 40,
        "n_observations": 40_000,
    }


def by_gbc(**scores):
    return ranking_of("city", "gbc", {name: {"gbc": one} for name, one in scores.items()}, {"old": "weights missing"})


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


def by_rank_mean(**scores):
    """Rank sources by their scores by gbc and logme."""
    rows = {name: {"gbc": row(gbc), "logme": row(logme, 0.01)} for name, (gbc, logme) in scores.items()}
    return ranking_of("city", "rank_mean", rows, {})


def test_only_the_default_metric_gives_its_reason():
    why = (
        "rank_mean is the default: on published pairs, no candidate (gbc, logme, nleep and mean ranks of them) was "
        "clearly better for sources of one architecture."
    )
    ranking = by_rank_mean(a=(-3.0, 0.9), b=(-9.0, 0.5))
    assert ranking_sentences(ranking)[1] == why
    assert why in str(ranking)
    assert why in ranking._repr_html_()
    assert "default" not in str(by_gbc(a=row(-3.0), b=row(-9.0)))


@pytest.mark.parametrize(
    ("scores", "first_by", "said"),
    [
        ({"a": (-3, 0.9), "b": (-9, 0.5)}, {"gbc": "a", "logme": "a"}, None),
        # Mean ranks: a 1.5, b 2, c 2.5.
        (
            {"a": (-3, 0.6), "b": (-9, 0.9), "c": (-4, 0.5)},
            {"gbc": "a", "logme": "b"},
            "gbc and logme disagree: logme puts b first.",
        ),
        # Mean ranks: a 2, b 2.5, c 2.5, d 3.
        (
            {"a": (-4, 0.7), "b": (-3, 0.5), "c": (-6, 0.9), "d": (-5, 0.6)},
            {"gbc": "b", "logme": "c"},
            "gbc and logme disagree: gbc puts b first, logme puts c first.",
        ),
        # Equal scores: a is among the first by logme.
        ({"a": (-3, 0.9), "b": (-9, 0.9)}, {"gbc": "a", "logme": "a"}, None),
        # Each is first by one metric and second by the other: the answer is the first by name.
        (
            {"b": (-3, 0.5), "a": (-9, 0.9)},
            {"gbc": "b", "logme": "a"},
            "gbc and logme disagree: gbc puts b first.",
        ),
    ],
)
def test_parts_that_disagree_are_named_with_their_first(scores, first_by, said):
    ranking = by_rank_mean(**scores)
    assert ranking.best == "a"
    assert ranking.first_by == first_by
    assert [line for line in ranking_sentences(ranking) if "disagree" in line] == ([said] if said else [])
    plain = json.loads(json.dumps(ranking.as_dict()))
    assert plain["first_by"] == first_by
    assert plain["sentences"] == ranking_sentences(ranking)


def test_a_single_metric_has_no_parts_that_could_disagree():
    ranking = by_gbc(a=row(-3.0), b=row(-9.0))
    assert ranking.first_by == ranking.as_dict()["first_by"] == {}
    assert "disagree" not in str(ranking)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ((4_000_000, 4_400_000, 4_100_000), None),  # the last layers differ
        ((4_000_000, 4_500_000, 4_100_000), "4.00 M to 4.50 M parameters"),
        ((66_000_000, None, 4_652_008), "4.65 M to 66.0 M parameters"),
        ((None, None, 4_652_008), None),
        ((None, None, None), None),
    ],
)
def test_networks_of_different_architectures_are_said_to_be_hardly_tested(parameters, said):
    facts = {name: {"parameters": number} for name, number in zip("abc", parameters, strict=True)}
    rows = {name: {"gbc": row(score)} for name, score in (("a", -3.0), ("b", -9.0), ("c", -10.0))}
    lines = [
        one for one in ranking_sentences(ranking_of("city", "gbc", rows, {}, facts=facts)) if "architecture" in one
    ]
    line = f"These networks differ in architecture ({said}); between architectures these scores are hardly tested."
    assert lines == ([line] if said else [])


def with_heads(**heads):
    """Rank a over b over c by gbc, with (probe_miou, its standard error) of some of them."""
    scores = {"a": -3.0, "b": -9.0, "c": -10.0}
    rows = {name: {"gbc": row(score)} for name, score in scores.items()}
    return ranking_of("city", "gbc", {name: one | head(heads.get(name)) for name, one in rows.items()}, {})


def head(known):
    return {"probe_miou": row(*known)} if known else {}


REACHED = "Without fine-tuning, a linear head reaches a mIoU of about 0.41 on held-out images"


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ({"a": (0.414, 0.02), "b": (0.35, 0.02), "c": (0.3, 0.02)}, f"{REACHED} with the features of a."),
        # 0.454 - 0.414 is no more than both standard errors together, 0.444 - 0.414 is.
        ({"a": (0.414, 0.02), "b": (0.454, 0.0201)}, f"{REACHED} with the features of a."),
        ({"a": (0.414, 0.02), "b": (0.444, 0.009)}, f"{REACHED} with the features of a, and 0.44 with those of b."),
        (
            {"a": (0.414, 0.02), "b": (0.6, 0.3), "c": (0.5, 0.02)},
            f"{REACHED} with the features of a, and 0.50 with those of c.",
        ),
        (
            {"a": (0.414, 0.02), "b": (0.5, 0.02), "c": (0.52, 0.02)},
            f"{REACHED} with the features of a, and 0.52 with those of c.",
        ),
        ({"a": (0.414, None), "b": (0.5, 0.02)}, f"{REACHED} with the features of a."),
        ({"a": (0.0, 0.0)}, REACHED.replace("0.41", "0.00") + " with the features of a."),
        ({"b": (0.5, 0.02)}, None),
        ({}, None),
    ],
)
def test_a_linear_head_is_said_and_another_that_is_clearly_better(heads, said):
    ranking = with_heads(**heads)
    assert [line for line in ranking_sentences(ranking) if "linear head" in line] == ([said] if said else [])
    assert (said or "sentence") in str(ranking) + "sentence"
    plain = json.loads(json.dumps(ranking.as_dict()))["ranking"]
    known = [heads.get(name, (None, None)) for name in "abc"]
    assert [(one["probe_miou"], one["probe_miou_error"]) for one in plain] == known


def test_the_linear_head_is_a_column_and_decides_nothing():
    heads = {"a": (0.414, 0.02), "c": (0.5, 0.02)}
    (table,) = ranking_text_tables(with_heads(**heads))
    assert table.columns[-2:] == ["s", "linear mIoU"]
    assert [cells[-1] for cells in table.rows] == ["0.41", DASH, "0.50"]
    assert ranking_text_tables(with_heads())[0].columns[-1] == "s"
    columns = ["source", "rank", "score", "tied", "probability"]
    assert with_heads(**heads).table[columns].equals(with_heads().table[columns])


def test_where_the_linear_head_decides_it_is_one_column():
    rows = {"a": {"probe_miou": row(0.414, 0.02)}, "b": {"probe_miou": row(0.3, 0.02)}}
    ranking = ranking_of("city", "probe_miou", rows, {})
    (table,) = ranking_text_tables(ranking)
    assert table.columns == ["rank", "source", "probe_miou", "P(best)", "tied", "s"]
    assert f"{REACHED} with the features of a." in str(ranking)


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
