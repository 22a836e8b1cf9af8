"""What is said of a ranking of sources beside its order: its default metric, its parts, architectures, linear heads."""

import json

import pytest
from score_rows import by_gbc, row

from seg_transfer.evaluation import ranking_of, ranking_sentences, ranking_text_tables

DASH = "\N{EN DASH}"


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


def test_equal_families_of_unlike_sizes_are_one_architecture():
    facts = {name: {"family": "hrnet", "parameters": number} for name, number in (("a", 10**6), ("b", 2 * 10**6))}
    rows = {name: {"gbc": row(score)} for name, score in (("a", -3.0), ("b", -9.0))}
    assert "hardly tested" not in str(ranking_of("city", "gbc", rows, {}, facts=facts))


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
