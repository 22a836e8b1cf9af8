"""Rankings by score: computed by hand, and equal to those of the evaluation where all pairs are fine-tuned."""

import numpy as np
import pandas as pd
import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import evaluate_groups, rankings
from seg_transfer.reports.choices import (
    choices,
    default_metric,
    families_of,
    of_leading_families,
    pairs_without_score,
    ranked,
    ties,
    with_source_facts,
)
from seg_transfer.reports.published import published_input

evaluate_groups = on_all_columns(evaluate_groups)
rankings = on_all_columns(rankings)

SCORES = pd.DataFrame(
    [
        ("a", "t", "gbc", -3.0),
        ("b", "t", "gbc", -1.0),
        ("c", "t", "gbc", -1.0),
        ("a", "t", "logme", 0.9),
        ("b", "t", "logme", 0.5),
        ("c", "t", "logme", 0.7),
        ("a", "u", "gbc", -7.0),
        ("b", "u", "gbc", -8.0),
    ],
    columns=["source", "target", "metric", "score"],
)
MIOU = pd.DataFrame(
    [("a", "t", 0.3), ("b", "t", 0.5), ("c", "t", 0.5), ("scratch", "t", 0.9), ("a", "u", 0.2)],
    columns=["source", "target", "miou"],
)


@pytest.fixture
def frame():
    return ranked(SCORES, MIOU, "fixed_target")


def rows(frame, *columns, **wanted):
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return [tuple(row) for row in frame[list(columns)].itertuples(index=False)]


def test_equal_scores_share_the_smaller_rank(frame):
    found = rows(frame, "source", "score", "score_rank", "miou_rank", "n_items", target="t", metric="gbc")
    assert found == [("b", -1.0, 1, 1, 3), ("c", -1.0, 1, 1, 3), ("a", -3.0, 3, 3, 3)]


def test_rank_mean_uses_the_ranks_in_the_group(frame):
    # gbc ranks 3, 1.5, 1.5; logme ranks 1, 3, 2
    found = rows(frame, "source", "score", "score_rank", target="t", metric="rank_mean")
    assert found == [("c", -1.75, 1), ("a", -2.0, 2), ("b", -2.25, 3)]
    assert rows(frame, "source", target="u", metric="rank_mean") == []
    # With a fixed source every group is another one.
    of_source = ranked(SCORES.replace({"metric": {"logme": "nleep"}}), MIOU, "fixed_source")
    assert rows(of_source, "target", "score", source="a", metric="rank_mean") == [("t", -1.0)]
    # The two questions have different parts.
    assert rows(ranked(SCORES, MIOU, "fixed_source"), "target", metric="rank_mean") == []


def test_a_pair_that_is_not_fine_tuned_has_no_rank_by_miou(frame):
    (first, second) = rows(frame, "source", "miou", "miou_rank", target="u", metric="gbc")
    assert first == ("a", 0.2, 1)
    assert second[0] == "b"
    assert np.isnan(second[1])
    assert second[2] is pd.NA
    assert "scratch" not in set(frame["source"])


def test_pairs_need_not_be_fine_tuned():
    frame = ranked(SCORES, MIOU[:0], "fixed_target")
    assert frame["miou"].isna().all()
    assert rows(frame, "source", target="u", metric="gbc", score_rank=1) == [("a",)]


@pytest.mark.parametrize("scenario", ["fixed_target", "fixed_source"])
def test_ranks_are_those_of_the_evaluation(scenario):
    report_input = published_input()
    group, item = ("target", "source") if scenario == "fixed_target" else ("source", "target")
    own = ranked(report_input.scores, report_input.miou, scenario).rename(columns={group: "group", item: "item"})
    theirs = rankings(report_input.pairs, scenario)
    keys = ["group", "item", "metric"]
    both = own.merge(theirs, on=keys, validate="one_to_one")
    assert len(both) == len(own) == len(theirs)
    for name in ("score", "score_rank", "miou", "miou_rank"):
        np.testing.assert_array_equal(both[f"{name}_x"].astype(float), both[f"{name}_y"].astype(float))


def test_choices_are_those_of_the_evaluation():
    report_input = published_input()
    own = ranked(report_input.scores, report_input.miou, "fixed_target")
    groups = evaluate_groups(report_input.pairs, scenarios=["fixed_target"])
    for metric in ("gbc", "rank_mean"):
        found = choices(own, "fixed_target", metric, own["metric"].unique())
        wanted = groups[groups["metric"] == metric].set_index("group")
        assert found["target"].tolist() == list(wanted.index)
        for name in ("chosen", "best", "chosen_miou", "best_miou"):
            assert found[name].tolist() == wanted[name].tolist()
        np.testing.assert_array_equal(found["of_best"], wanted["rel_at_1"])


def test_choices_by_hand(frame):
    (first, second) = choices(frame, "fixed_target", "gbc", ["gbc", "logme", "rank_mean"]).to_dict("records")
    assert first == {
        "target": "t",
        "chosen": "b, c",
        "tied": None,
        "probability": pytest.approx(np.nan, nan_ok=True),
        "second": "a",
        "third": "",
        "agreeing": "1 of 2",  # logme says a; rank_mean, made of both, is no voice of its own
        "n_items": 3,
        "chosen_miou": 0.5,
        "best": "b, c",
        "best_miou": 0.5,
        "of_best": 1.0,
    }
    assert (second["chosen"], second["agreeing"]) == ("a", "1 of 1")
    # b is not fine-tuned on u: which is best there is not known.
    assert np.isnan([second["chosen_miou"], second["best_miou"], second["of_best"]]).all()
    assert pd.isna(second["best"])


def with_replicates(spread):
    """Scores of t whose replicates move together by 1 and apart by `spread`."""
    common = np.array([-1.0, 1.0, -1.0, 1.0])
    apart = np.array([1.0, 1.0, -1.0, -1.0]) * spread
    sign = {"a": 1, "b": -1, "c": -1}
    own = SCORES[SCORES["target"] == "t"]
    moved = [list(row.score + common + sign[row.source] * apart) for row in own.itertuples()]
    return own.assign(replicates=moved)


def test_without_replicates_ties_are_unknown():
    found = ties(SCORES, "gbc")
    assert found.keys() == {"t", "u"}
    assert found["t"].tied is None
    assert np.isnan(list(found["t"].probability.values())).all()


def test_variation_that_sources_share_causes_no_ties():
    # gbc: b and c lead a by 2. The difference of a and b moves by 2 * spread: its error is sqrt(3 * (2 * spread)^2).
    for spread, tied in ((0.25, ()), (0.35, ("a",))):
        error = np.sqrt(3) * 2 * spread
        assert (1.96 * error >= 2) == bool(tied)
        found = ties(with_replicates(spread), "gbc")["t"]
        assert found.tied == tied
        assert sum(found.probability.values()) == pytest.approx(1, abs=1e-12)


def test_choices_show_ties_and_probabilities():
    scores = with_replicates(0.35)
    frame = ranked(scores, MIOU, "fixed_target")
    for metric in ("gbc", "rank_mean"):
        sure = ties(scores, metric)
        (row,) = choices(frame, "fixed_target", metric, ["gbc", "logme"], sure).to_dict("records")
        names = row["chosen"].split(", ")
        assert row["tied"] == ", ".join(sure["t"].tied)
        assert row["probability"] == sum(sure["t"].probability[name] for name in names)
    assert ties(scores, "rank_mean")["t"].tied is not None


def test_a_source_without_all_parts_has_no_probability():
    scores = with_replicates(0.35).query("not (source == 'c' and metric == 'logme')")
    assert set(ties(scores, "rank_mean")["t"].probability) == {"a", "b"}


def test_the_default_metric_has_scored_everything(frame):
    # rank_mean lacks u, so gbc is asked, which has all.
    assert default_metric(frame) == "gbc"
    assert pairs_without_score(frame, "gbc") == []
    assert pairs_without_score(frame, "logme") == ["a -> u", "b -> u"]
    assert default_metric(frame[frame["target"] == "t"]) == "rank_mean"
    assert default_metric(frame[frame["metric"] == "logme"]) == "logme"
    others = frame.replace({"metric": {"gbc": "leep"}})
    assert default_metric(others) == "leep"
    beside = frame.replace({"metric": {"gbc": "probe_miou", "logme": "zero_shot"}})
    beside = beside[beside["metric"].isin(["probe_miou", "zero_shot"]) & (beside["target"] == "t")]
    assert default_metric(beside) == "zero_shot"
    assert default_metric(beside[beside["metric"] == "probe_miou"]) == "probe_miou"
    fewer = beside[(beside["metric"] == "probe_miou") | (beside["source"] == "a")]
    assert default_metric(fewer) == "zero_shot"  # even with fewer scores


def test_the_linear_head_does_not_count_among_the_metrics_that_agree():
    heads = SCORES[SCORES["metric"] == "gbc"].assign(metric="probe_miou")
    scores = pd.concat([SCORES, heads])
    names = ["gbc", "logme", "probe_miou"]
    counted = choices(ranked(scores, MIOU, "fixed_target"), "fixed_target", "gbc", names)["agreeing"].tolist()
    assert (
        counted == choices(ranked(SCORES, MIOU, "fixed_target"), "fixed_target", "gbc", names[:2])["agreeing"].tolist()
    )
    alone = choices(ranked(heads, MIOU, "fixed_target"), "fixed_target", "probe_miou", ["probe_miou"])
    assert set(alone["agreeing"]) == {"1 of 1"}


def test_what_is_known_of_a_source_stands_beside_its_rank(frame):
    heads = SCORES[SCORES["metric"] == "logme"].assign(metric="probe_miou").query("source != 'b'")
    scores = pd.concat([SCORES, heads], ignore_index=True).assign(seconds=1.0)
    scores.loc[scores["metric"] == "probe_miou", "seconds"] = 2.0
    sources = pd.DataFrame({"source": ["a", "b"], "parameters": [10, 20], "gflops": [np.nan, np.nan]})
    found = with_source_facts(frame, scores, sources)
    pd.testing.assert_frame_equal(found[frame.columns.tolist()], frame)
    (of_a,) = found.query("source == 'a' and target == 't' and metric == 'gbc'").to_dict("records")
    assert (of_a["linear_miou"], of_a["seconds"], of_a["parameters"]) == (0.9, 2.0, 10)
    assert found.loc[(found["source"] == "b") | (found["target"] == "u"), "linear_miou"].isna().all()
    assert "gflops" not in found
    assert "linear_miou" not in with_source_facts(frame, SCORES, sources)


FAMILIES = {"a": "x", "b": "y", "c": "y"}


def test_sources_of_several_families_are_ranked_within_each() -> None:
    """By gbc a, c, b; by logme b, a, c: mean ranks a 1.5, b 2, c 2.5 in one list, b 1.5 and c 1.5 in their family."""
    values = {"gbc": {"a": 3.0, "b": 1.0, "c": 2.0}, "logme": {"a": 2.0, "b": 3.0, "c": 1.0}}
    rows = [("t", source, metric, score) for metric, own in values.items() for source, score in own.items()]
    scores = pd.DataFrame(rows, columns=["target", "source", "metric", "score"])
    frame = ranked(scores, MIOU[:0], "fixed_target", FAMILIES)
    shown = frame[frame["metric"] == "rank_mean"][["source", "score", "score_rank", "n_items"]]
    assert shown.to_numpy().tolist() == [["a", -1.0, 1, 1], ["b", -1.5, 1, 2], ["c", -1.5, 1, 2]]
    by_logme = frame[frame["metric"] == "logme"]
    assert by_logme[["source", "score_rank"]].to_numpy().tolist() == [["b", 1], ["c", 2], ["a", 1]]
    (row,) = choices(frame, "fixed_target", "rank_mean", ["gbc", "logme"], None, FAMILIES).to_dict("records")
    assert (row["chosen"], row["second"], row["n_items"]) == ("a", "", 1)
    (row,) = choices(frame, "fixed_target", "logme", ["gbc", "logme"], None, FAMILIES).to_dict("records")
    assert (row["chosen"], row["second"], row["third"], row["n_items"]) == ("b", "c", "", 2)
    leading = of_leading_families(scores, by_logme, FAMILIES)
    assert set(leading["source"]) == {"b", "c"}


def test_families_count_where_two_or_more_are_known() -> None:
    frame = pd.DataFrame({"source": ["a", "b", "c"], "family": ["x", None, "y"]})
    assert families_of(frame) == {"a": "x", "b": "", "c": "y"}
    assert families_of(frame[:2]) == families_of(frame.drop(columns="family")) == {}
