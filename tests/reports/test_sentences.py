"""Sentences match the numbers they are made from."""

import re

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import compare_metrics, evaluate
from seg_transfer.reports import sentences
from seg_transfer.reports.comparisons import comparison, comparisons_of
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)
compare_metrics = on_all_columns(compare_metrics)


@pytest.fixture(scope="module")
def published():
    pairs = load_published()
    return evaluate(pairs), comparison(pairs)


def test_the_verdict_on_the_published_pairs(published):
    text = " ".join(sentences.verdict(*published, "fixed_target"))
    frame = published[0].query("scenario == 'fixed_target'").set_index("metric")
    best = frame.loc["logme"]
    assert f"logme is best by tau_w, {best['tau_w']:.3f} (95 % interval 0.53 to 0.74), mean over 17 targets." in text
    assert "rank_mean and gbc may be as good: each interval of the paired difference contains 0." in text
    assert "rank_mean and gbc most often choose the best source: 11 of 17, top-1 0.647" in text
    assert "The control mean_rank_elsewhere, which uses no features, beats hscore by tau_w." in text
    text = " ".join(sentences.verdict(*published, "fixed_source"))
    assert "nleep most often chooses the best target: 15 of 17" in text
    assert "mean_rank_elsewhere, which uses no features, beats every metric by tau_w" in text


def test_the_verdict_follows_the_numbers():
    """Scores reversed round: what was best is worst, and controls beat it."""
    pairs = load_published()[["source", "target", "miou", "gbc"]].assign(reversed=lambda frame: -frame["gbc"])
    text = " ".join(sentences.verdict(evaluate(pairs), comparison(pairs), "fixed_target"))
    assert "gbc is best by tau_w, 0.593" in text
    assert "may be as good" not in text
    assert re.search(r"mean_rank_elsewhere, which uses no features, beats reversed by tau_w", text)
    assert "random, which uses no features, beats reversed by tau_w" in text


def test_no_control_beats_any():
    pairs = load_published()[["source", "target", "miou"]].assign(oracle=lambda frame: frame["miou"])
    text = " ".join(sentences.verdict(evaluate(pairs), comparison(pairs), "fixed_target"))
    assert "oracle is best by tau_w, 1.000 (95 % interval 1.00 to 1.00)" in text
    assert "No control, which uses no features, has a higher tau_w than any metric." in text


def test_without_evaluation_there_are_no_sentences():
    assert sentences.verdict(None, None, "fixed_target") == []
    assert sentences.accuracy(None, "gbc") == []
    assert sentences.scratch_comparison(pd.DataFrame()) == []


def test_accuracy_counts_correct_choices(published):
    (text,) = sentences.accuracy(published[0], "rank_mean")
    assert text == (
        "Judged by mIoU after fine-tuning, rank_mean chose the best source on 11 of 17 targets, top-1 0.647 "
        "(95 % interval 0.41 to 0.88); its choices reach 99.1 % of the best mIoU."
    )
    assert sentences.accuracy(published[0], "not there") == []


def test_comparisons_are_antisymmetric(published):
    pairs = load_published()
    own = comparisons_of(published[1], "fixed_target", "logme").set_index("second_metric")
    given = compare_metrics(pairs, scenario="fixed_target").set_index(["first", "second"])
    as_second, as_first = given.loc[("gbc", "logme")], given.loc[("logme", "hscore")]
    reversed = own.loc["gbc"]
    assert (reversed["wins"], reversed["losses"]) == (as_second["losses"], as_second["wins"]) == (12, 5)
    assert reversed["mean_difference"] == -as_second["mean_difference"] > 0
    assert (reversed["difference_low"], reversed["difference_high"]) == (
        -as_second["difference_high"],
        -as_second["difference_low"],
    )
    assert reversed["share_first_better"] == 1 - as_second["share_first_better"]
    assert own.loc["hscore", "mean_difference"] == as_first["mean_difference"]
    assert set(own["first"]) == {"logme"}


def choices(*rows):
    return pd.DataFrame(rows, columns=["target", "chosen", "tied", "agreeing"]).assign(probability=0.75)


def test_certainty_counts_ties_and_agreement():
    frame = choices(("t", "a", "", "3 of 3"), ("u", "b", "c, d", "1 of 3"), ("v", "a, c", "", "3 of 3"))
    many = pd.concat([frame, frame.assign(target=["w", "x", "y"])])
    assert sentences.certainty(many, "gbc") == [
        "No other source is tied with the first on 2 of 6 targets.",
        "Other sources are tied for first on u and x.",
        "Equal scores share the first place on v and y.",
        "All metrics choose the same source on 2 of 6 targets.",
    ]
    assert sentences.certainty(frame, "gbc")[:3] == [
        "a is the best for t with probability 0.75; no other source is tied with it.",
        "b is the best for u with probability 0.75; tied for first: c, d.",
        "a or c is the best for v with probability 0.75; no other source is tied with it.",
    ]
    assert sentences.certainty(frame[1:2], "gbc")[-1] == "1 of 3 metrics choose it."
    unknown = choices(("t", "a", None, "1 of 1"))
    (sentence,) = sentences.certainty(unknown, "gbc")
    assert sentence == "Which sources are tied for first by gbc is unknown: there are no standard errors."


def test_advice_names_the_source_of_a_few_targets():
    few = choices(("t", "a", "", "1 of 1"), ("u", "b, c", "", "1 of 1"))
    assert sentences.advice(few, "gbc") == ["For t: fine-tune a.", "For u: fine-tune b or c."]
    many = choices(*((f"t{number}", "a" if number < 3 else f"b{number}", "", "1 of 1") for number in range(6)))
    assert sentences.advice(many, "gbc") == [
        "The table below names a source for each target, by gbc. Chosen for several targets: a (3)."
    ]


def test_cost_uses_suitable_units():
    frame = pd.DataFrame(
        [("scoring pairs", 12, 33.0, 2.75), ("fine-tuning", 1, 9000.0, 9000.0)],
        columns=["what", "count", "total_seconds", "mean_seconds"],
    )
    assert sentences.cost(frame) == ["Scoring pairs: 33.0 s for 12, 2.8 s each.", "Fine-tuning: 2.5 h for 1."]
    assert sentences.cost(frame[:0]) == ["Unknown: these results hold no computing times."]


def test_targets_on_which_scratch_wins_are_named():
    frame = pd.DataFrame({"target": ["t", "u"], "beats_scratch": [True, False], "margin": 0.0})
    assert sentences.scratch_comparison(frame) == [
        "No source beats scratch on u: a ranking of sources means little there."
    ]
    assert "on all 1 targets" in sentences.scratch_comparison(frame[:1])[0]
    (sentence,) = sentences.scratch_comparison(frame.assign(margin=0.01))
    assert sentence.startswith("No source beats scratch, by more than the noise of seeds, on u")


def test_a_single_group_has_no_interval():
    pairs = load_published().query("target == 'coco'")
    text = " ".join(sentences.verdict(evaluate(pairs), comparison(pairs), "fixed_target"))
    assert "interval 0" not in text.replace("paired difference", "")
    assert "nan" not in text
    assert np.isnan(evaluate(pairs)["tau_w_low"]).all()


BETWEEN = "Ranks, ties and probabilities are those within a family; between families, only fine-tuning tells."


@pytest.mark.parametrize(
    ("families", "said"),
    [
        (("x", "x", "x"), []),
        (("x", None, "x"), []),
        (("x", "x", "y"), ["For t, the best of each family of networks: a (x) and c (y).", BETWEEN]),
        ((None, "y", "x"), ["For t, the best of each family of networks: b (y) and c (x).", BETWEEN]),
    ],
)
def test_the_best_of_every_family_is_named(families, said):
    ranking = pd.DataFrame({"target": "t", "source": list("abc"), "family": families})
    assert sentences.best_of_families(ranking) == said
    assert sentences.best_of_families(ranking.drop(columns="family")) == []
    several = pd.concat([ranking.assign(target=name) for name in "tuvwx"])
    many = [f"These sources are of 2 families of networks. {BETWEEN}"]
    assert sentences.best_of_families(several) == (many if said else [])
