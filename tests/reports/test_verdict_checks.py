"""Sentences on gaps, ceilings and robustness: they follow from the numbers, and change with them."""

import pandas as pd
import pytest
from all_columns import on_all_columns

from seg_transfer.evaluation import evaluate
from seg_transfer.reports.verdict_checks import gap_sentences, robustness_sentences

evaluate = on_all_columns(evaluate)
NAMES = pd.DataFrame({"source": [*"abcde", "scratch"], "target": "t", "miou": 0.5})
SAME_SIZE = NAMES.assign(parameters=[7, 7, 7, 7, 7, None])
SIZES = NAMES.assign(parameters=[1, 2, 3, 40, 41, None])


def evaluation(seeds=(0,)):
    """Two targets of three sources: near loses 10 points on one of them, a random choice 11 and 7."""
    rows = [("a", "t", 0.5, 1.0), ("b", "t", 0.4, 3.0), ("c", "t", 0.27, 2.0)]
    rows += [("a", "u", 0.3, 3.0), ("b", "u", 0.2, 2.0), ("c", "u", 0.19, 1.0)]
    pairs = pd.DataFrame(rows, columns=["source", "target", "miou", "near"])
    tuned = pd.concat([pairs[["source", "target", "miou"]].assign(seed=seed) for seed in seeds])
    return evaluate(pairs, fine_tunings=tuned, scenarios=["fixed_target"])


def test_the_choices_of_a_metric_lose_points():
    (text,) = gap_sentences(evaluation(), "fixed_target", "near")
    assert text == (
        "Ranking sources, the choices of near lose 5.0 points of mIoU (95 % interval 0.0 to 10.0); "
        "random ones lose 9.0."
    )


def test_the_ceiling_is_what_one_fine_tuning_reaches():
    frame = evaluation(seeds=(0, 1))
    share = frame.set_index("metric").loc["near", "tau_w_share"]
    assert share == frame.set_index("metric").loc["near", "tau_w"]  # seeds agree, so the ceiling is 1
    assert gap_sentences(frame, "fixed_target", "near")[1] == (
        "Fine-tuning every pair once, judged by other seeds, has a tau_w of 1.000, a top-1 of 1.000 and loses 0.0 "
        f"points; near reaches {100 * share:.0f} % of that tau_w."
    )


def test_without_results_nothing_is_said():
    assert gap_sentences(None, "fixed_target", "near") == []
    assert gap_sentences(evaluation(), "fixed_target", "other") == []
    assert gap_sentences(evaluation(), "fixed_source", "near") == []
    assert robustness_sentences(pd.DataFrame(), SIZES) == []


def summary(**columns):
    known = {
        "metric": ["gbc", "leep", "parameters"],
        "kind": ["metric", "metric", "control"],
        "tau_w": [0.6, 0.5, 0.9],
        "tau_w_without_largest": [0.55, 0.45, 0.9],
        "tau_w_equal_size": [0.1, 0.2, 0.9],
        "tau_w_min": [0.4, 0.3, 0.9],
        "tau_w_max": [0.7, 0.6, 0.9],
        "n_first": [6, 1, 0],
        "n_left_out": [7, 7, 7],
    }
    return pd.DataFrame(known | columns)


def test_a_verdict_holds_or_another_metric_leads():
    assert robustness_sentences(summary(), SIZES) == [
        "Without the 2 largest of 5 sources, gbc is still the best metric (tau_w 0.550).",
        "Within thirds by number of parameters, leep is the best metric (tau_w 0.200; gbc 0.100).",
        "With one source left out in turn, gbc is the best in 6 of 7 cases; its tau_w lies between 0.400 and 0.700.",
    ]


def test_a_single_largest_source_is_not_counted():
    pairs = NAMES.assign(parameters=[1, 2, 3, 4, 40, None]).iloc[2:]
    assert robustness_sentences(summary(), pairs)[0].startswith("Without the largest of 3 sources, gbc is still")


def test_an_undefined_tau_w_is_said_to_be_undefined():
    nothing = float("nan")
    texts = robustness_sentences(summary(tau_w_equal_size=[nothing, 0.2, 0.9]), SIZES)
    assert texts[1].endswith("leep is the best metric (tau_w 0.200; gbc undefined).")
    frame = evaluation(seeds=(0, 1))
    shares = frame.assign(tau_w_share=nothing)
    shares.loc[shares["kind"] == "ceiling", "tau_w"] = nothing
    assert gap_sentences(shares, "fixed_target", "near")[1] == (
        "Fine-tuning every pair once, judged by other seeds, has a top-1 of 1.000 and loses 0.0 points."
    )


UNKNOWN = dict.fromkeys(("tau_w_without_largest", "tau_w_equal_size"), float("nan"))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (SAME_SIZE, "All sources have the same size"),
        (pd.DataFrame({"source": ["a"]}), "numbers of parameters are not recorded"),
    ],
)
def test_sizes_that_do_not_differ_are_said_to_be_equal_or_unknown(pairs, words):
    without_control = summary(n_first=[7, 0, 0], **UNKNOWN).query("metric != 'parameters'")
    first, last = robustness_sentences(without_control, pairs)
    assert words in first
    assert last == "gbc is the best whichever source is left out; its tau_w lies between 0.400 and 0.700."


def test_sizes_that_differ_among_too_few_sources_are_not_spoken_of():
    (only,) = robustness_sentences(summary(**UNKNOWN), SIZES)
    assert only.startswith("With one source left out")


def test_sources_that_cannot_be_left_out_are_not_spoken_of():
    nothing = {"n_left_out": 0, "n_first": 0, "tau_w_min": float("nan"), "tau_w_max": float("nan")}
    assert len(robustness_sentences(summary(**nothing), SIZES)) == 2
