"""Rankings of sources of several families of networks: family by family, because scores hardly compare between them."""

import pytest
from score_rows import row

from seg_transfer.evaluation import ranking_of, ranking_sentences, ranking_text_tables

SCORES = {"a": -3.0, "b": -9.0, "c": -10.0}
FAMILY_COLUMNS = ["rank", "source", "family", "gbc", "P(best)", "tied", "s"]


def of_families(*families, scores=SCORES):
    rows = {name: {"gbc": row(score)} for name, score in scores.items()}
    facts = {name: {"family": family} for name, family in zip(scores, families, strict=True)}
    return ranking_of("city", "gbc", rows, {}, facts=facts)


def alone(*names):
    """The ranking of some of the sources by themselves."""
    return ranking_of("city", "gbc", {name: {"gbc": row(SCORES[name])} for name in names}, {})


@pytest.mark.parametrize(
    ("families", "order", "ranks", "best"),
    [
        (("hrnet", "hrnet", "hrnet"), "abc", [1, 2, 3], "a"),
        (("hrnet", "hrnet", None), "abc", [1, 2, 3], "a"),
        (("hrnet", "hrnet", "unet"), "abc", [1, 2, 1], "ac"),
        (("hrnet", "unet", "hrnet"), "acb", [1, 2, 1], "ab"),
        ((None, "hrnet", "unet"), "abc", [1, 1, 1], "abc"),
        ((None, "hrnet", None), "abc", [1, 2, 3], "a"),
    ],
)
def test_sources_are_ranked_within_their_family(families, order, ranks, best):
    ranking = of_families(*families)
    assert "".join(ranking.table["source"]) == order
    assert ranking.table["rank"].tolist() == ranks
    assert "".join(ranking.best_of_families) == best
    assert ranking.as_dict()["best_of_families"] == list(best)
    assert ranking.best == "a"


def test_every_family_has_the_ranking_that_it_has_by_itself():
    ranking = of_families("hrnet", "unet", "hrnet")
    for family, names in zip(ranking.families, ("ac", "b"), strict=True):
        columns = [name for name in family.table if name != "family"]
        assert family.table[columns].equals(alone(*names).table[columns])
    assert ranking.tied == ("a", "b")
    assert len(of_families("hrnet", "hrnet", "hrnet").families) == 1


def test_mean_ranks_and_disagreement_are_those_within_the_family():
    scores = {"a": (-3, 0.1), "b": (-9, 0.5), "c": (-4, 0.7), "d": (-5, 0.9)}
    rows = {name: {"gbc": row(gbc), "logme": row(logme, 0.01)} for name, (gbc, logme) in scores.items()}
    facts = {name: {"family": family} for name, family in zip("abcd", ("x", "x", "y", "y"), strict=True)}
    ranking = ranking_of("city", "rank_mean", rows, {}, facts=facts)
    assert ranking.table.set_index("source")["score"].to_dict() == dict.fromkeys("abcd", -1.5)
    assert ranking.first_by == {}
    assert sum("gbc and logme disagree" in line for line in ranking_sentences(ranking)) == 2


def test_sentences_name_the_best_of_every_family():
    lines = ranking_sentences(of_families("hrnet", "unet", "hrnet"))
    assert lines[0] == (
        "Fine-tune a, or the best of another family (b): each is the first of its family of networks for city by gbc. "
        "Between families, only fine-tuning tells which is the best."
    )
    assert lines[1] == "a, of 2 (hrnet): It is the best with probability 1.00; no other source is tied with it."
    assert lines[2] == "Without others of their family: b (unet)."
    lines = ranking_sentences(of_families(None, "hrnet", "unet"))
    assert lines[1] == "Without others of their family: a (networks of unknown family), b (hrnet), c (unet)."


def test_the_family_has_a_column_where_there_are_several():
    (table,) = ranking_text_tables(of_families("hrnet", None, "unet"))
    assert table.columns == FAMILY_COLUMNS
    assert [cells[2] for cells in table.rows] == ["hrnet", "\N{EN DASH}", "unet"]
    (table,) = ranking_text_tables(of_families("hrnet", "hrnet", "hrnet"))
    assert "family" not in table.columns
