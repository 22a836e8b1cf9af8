"""The figures that compare metrics: their dots, intervals and the line of the ceiling lie where the numbers are."""

import pandas as pd
import pytest
from all_columns import on_all_columns
from report_inputs import pairs_of

from seg_transfer.evaluation import evaluate
from seg_transfer.reports.evaluation_figures import evaluation_plots

evaluate = on_all_columns(evaluate)


def measured(seeds=(0,)):
    pairs = pairs_of(["a", "b", "c", "d"], ["gbc", "leep"])
    tuned = [pairs[["source", "target"]].assign(seed=seed, miou=pairs["miou"] + 0.01 * seed) for seed in seeds]
    return evaluate(pairs, fine_tunings=pd.concat(tuned))


def plots(frame):
    return {plot.name: plot for plot in evaluation_plots(frame)}


def dots(axes):
    """Label -> place of the dot of a metric or control."""
    labels = {tick: text.get_text() for tick, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    marked = [line.get_xydata() for line in axes.get_lines() if line.get_marker() in ("o", "s")]
    return {labels[place]: value for points in marked for value, place in points}


def test_regret_is_drawn_in_points_the_lowest_on_top():
    frame = measured()
    figure = plots(frame)["regret"].draw()
    for axes, (_, rows) in zip(figure.axes, frame.groupby("scenario", sort=False), strict=True):
        assert dots(axes) == pytest.approx((100 * rows.set_index("metric")["regret"]).to_dict())
        metrics = rows[rows["kind"] == "metric"].sort_values("regret", ascending=False)["metric"].tolist()
        assert [text.get_text() for text in axes.get_yticklabels()][-2:] == metrics
    ends = [segment[:, 0] for lines in figure.axes[0].collections for segment in lines.get_segments()]
    gbc = frame.iloc[0]
    assert any(list(end) == pytest.approx([100 * gbc["regret_low"], 100 * gbc["regret_high"]]) for end in ends)


def dashed(figure):
    return [line.get_xdata()[0] for axes in figure.axes for line in axes.get_lines() if line.get_linestyle() == "--"]


def test_the_ceiling_is_a_line_and_not_a_row():
    drawn = plots(measured())
    assert [dashed(plot.draw()) for plot in drawn.values()] == [[], []]
    assert "dashed" not in drawn["regret"].caption

    frame = measured(seeds=(0, 1))
    ceiling = frame[frame["kind"] == "ceiling"]
    drawn = plots(frame)
    assert "The dashed line is what one fine-tuning per pair reaches." in drawn["regret"].caption
    assert dashed(drawn["regret"].draw()) == pytest.approx([100 * value for value in ceiling["regret"]])
    figure = drawn["evaluation"].draw()
    assert dashed(figure) == pytest.approx([v for _, row in ceiling.iterrows() for v in (row["tau_w"], row["top1"])])
    assert "one_fine_tuning" not in dots(figure.axes[0])
    assert dots(figure.axes[0])["gbc"] == frame.iloc[0]["tau_w"]
