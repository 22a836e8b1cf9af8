"""How well metrics rank, as tables that fit 80 columns: measures, gaps, the ceiling, robustness and noise."""

import pandas as pd
import pytest
from all_columns import on_all_columns
from printed import cells, small_pairs, text_of
from scipy.stats import weightedtau

from seg_transfer.evaluation import evaluate, fine_tuning_noise
from seg_transfer.reports.evaluation_tables import evaluation_tables, noise_tables, robustness_tables
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)


@pytest.fixture(scope="module")
def published():
    return evaluation_tables(evaluate(load_published()))


def fine_tunings():
    rows = [
        (source, "t", seed, miou)
        for source, values in {"a": (0.50, 0.52), "b": (0.40, 0.40), "c": (0.39, 0.41)}.items()
        for seed, miou in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["source", "target", "seed", "miou"])


def with_ceiling():
    """A metric that puts the second best source of three first, and its ceiling from two seeds."""
    pairs = pd.DataFrame(
        {"source": ["a", "b", "c"], "target": "t", "miou": [0.51, 0.40, 0.40], "near": [2.0, 3.0, 1.0]}
    )
    return evaluate(pairs, fine_tunings=fine_tunings(), scenarios=["fixed_target"])


def test_published_evaluation_fits_80_columns(published):
    assert len(published) == 4
    target, gaps, source, more_gaps = (text_of([table]) for table in published)
    everything = target + gaps + source + more_gaps
    assert max(map(len, everything.splitlines())) <= 80
    assert "…" not in everything
    assert cells(target, "gbc")[:6] == ["gbc", "0.647", "0.593", "0.46", "to", "0.71"]
    assert cells(source, "nleep")[1:3] == ["0.882", "0.656"]
    assert cells(source, "logme")[1:6] == ["0.000", "-0.541", "-0.57", "to", "-0.51"]
    lines = [line.split()[0] for line in source.splitlines() if line.split()]
    assert lines.index("hscore") < lines.index("minus_n_classes") < lines.index("random")
    assert "mean over 17 groups" in target
    assert "ceiling" not in everything


def test_regret_is_in_points(published):
    pairs = load_published()
    best = pairs.groupby("target")["miou"].max()
    chosen = pairs.loc[pairs.groupby("target")["gbc"].idxmax()].set_index("target")["miou"]
    regret = f"{100 * (best - chosen).mean():.2f}"
    target, gaps = (text_of([table]) for table in published[:2])
    assert cells(target, "gbc")[6] == regret
    assert cells(gaps, "gbc")[1] == regret
    assert "regret: mIoU points (100 x) from the chosen item up to the best." in target


def test_every_control_names_the_metrics_that_it_beats(published):
    notes = " ".join(text_of(published).split())
    assert "Beaten in tau_w by mean_rank_elsewhere: hscore." in notes
    assert "Beaten in tau_w by mean_rank_elsewhere: every metric." in notes
    assert "Beaten in tau_w by minus_n_classes: logme, hscore." in notes
    assert "Beaten in tau_w by random: logme." in notes


def test_the_ceiling_has_a_section_of_its_own_and_shares_refer_to_it():
    frame = with_ceiling()
    measures, gaps = (text_of([table]) for table in evaluation_tables(frame, "accuracy"))
    # Either seed finds a, the best by the other seed, and orders the other two otherwise.
    taus = [weightedtau([0.52, 0.40, 0.41], [0.50, 0.40, 0.39]), weightedtau([0.50, 0.40, 0.39], [0.52, 0.40, 0.41])]
    tau = (taus[0].statistic + taus[1].statistic) / 2
    assert cells(measures, "one_fine_tuning")[:3] == ["one_fine_tuning", "1.000", f"{tau:.3f}"]
    near = frame.set_index("metric").loc["near"]
    assert near["regret"] == pytest.approx(0.11)
    assert cells(measures, "near")[-3] == "11.00"
    assert cells(gaps, "near")[3] == f"{near['tau_w_share']:.2f}"
    lines = [line.strip() for line in measures.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith("one_fine_tuning"))
    assert lines[at - 1] == lines[at + 1] == ""
    assert "accuracy points" in measures
    assert "correlation of score gaps with accuracy gaps" in gaps
    assert "mIoU" not in measures + gaps


def test_notes_name_what_was_left_out():
    text = text_of(evaluation_tables(evaluate(small_pairs())))
    assert "flat: tau_w is undefined in 1 of 2 groups." in text
    assert "Left out: sources with fewer than two targets: 1." in text
    assert "nan" not in text


def test_an_empty_scenario_still_prints():
    pairs = small_pairs().query("target == 't'")
    text = text_of(evaluation_tables(evaluate(pairs))[2:3])
    assert "mean over 0 groups" in text
    assert cells(text, "sharp") == ["sharp", *["n/a"] * 6]


def summary(**columns):
    """Two metrics and a control; in pools of equal size, the second is better."""
    known = {
        "metric": ["gbc", "regularized_h_score", "mean_rank_elsewhere"],
        "kind": ["metric", "metric", "control"],
        "tau_w": [0.6, 0.5, 0.4],
        "tau_w_without_largest": [0.55, 0.45, 0.3],
        "tau_w_equal_size": [0.1, 0.2, 0.3],
        "tau_w_min": [0.4, 0.3, -0.2],
        "tau_w_max": [0.7, 0.6, 0.5],
        "n_first": [6, 1, 0],
        "n_left_out": [7, 7, 7],
    }
    return pd.DataFrame(known | columns)


def test_robustness_is_a_table_with_its_sentences():
    text = text_of(robustness_tables(summary(), ["It holds.", "It does not."]))
    assert cells(text, "gbc") == ["gbc", "0.600", "0.550", "0.100", "0.40", "to", "0.70", "6", "of", "7"]
    assert cells(text, "mean_rank_elsewhere")[4:7] == ["-0.20", "to", "0.50"]
    assert "It does not." in text
    assert max(map(len, text.splitlines())) <= 80


def test_unknown_sizes_have_no_columns():
    unknown = dict.fromkeys(("tau_w_without_largest", "tau_w_equal_size"), float("nan"))
    text = text_of(robustness_tables(summary(**unknown), []))
    assert "largest" not in text
    assert "size" not in text
    assert cells(text, "gbc") == ["gbc", "0.600", "0.40", "to", "0.70", "6", "of", "7"]
    assert robustness_tables(summary()[:0], []) == []


def test_noise_is_shown_where_seeds_can_be_compared():
    trials = fine_tunings()
    text = text_of(noise_tables(fine_tuning_noise(trials)))
    # Variances 2e-4, 0, 2e-4; b and c cannot be distinguished; the first seed has b before c, the second c before b.
    assert "seeds of a pair differ by 0.0115 mIoU" in text
    assert "Ranked by one of 2 fine-tunings per pair" in text
    assert cells(text, "fixed")[:5] == ["fixed", "target", "1", "0.667", "1.000"]
    assert "fixed source" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert noise_tables(fine_tuning_noise(trials[trials["seed"] == 0])) == []
