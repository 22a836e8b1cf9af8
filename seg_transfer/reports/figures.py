"""The figures of a report, as functions of its content."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from seg_transfer.evaluation import measures
from seg_transfer.reports.content import ReportContent
from seg_transfer.reports.data_table import cell_text
from seg_transfer.reports.drawing import BLUE, GRAY, HEAT, INK, RED, Plot, file_stem, label
from seg_transfer.reports.evaluation_figures import evaluation_plots
from seg_transfer.reports.explanation_figures import explanation_plots

_PANELS_PER_ROW = 4
_MIN_POINTS = 2
Words = Callable[[str], str]


def all_plots(content: ReportContent) -> Iterator[Plot]:
    """Yield all figures; metrics that the recommendations do not use come last, where the page may lack room."""
    caption = content.measured.caption
    for plot in _plots(content):
        yield replace(plot, title=caption(plot.title), alt=caption(plot.alt), caption=caption(plot.caption))


def _plots(content: ReportContent) -> Iterator[Plot]:
    ranking, words = content.rankings["fixed_target"], content.measured.words
    tuned = _fine_tuned(ranking)
    if not tuned.empty:
        yield _miou_map(tuned, words)
    yield from _metric_plots(ranking, content.metric, words)
    if content.evaluation is not None:
        yield from evaluation_plots(content.evaluation)
    if content.stability is not None:
        yield _stability(content.stability)
    yield from explanation_plots(content.explanations)
    for metric in content.metrics:
        if metric != content.metric:
            yield from _metric_plots(ranking, metric, words)


def _metric_plots(ranking: pd.DataFrame, metric: str, words: Words) -> Iterator[Plot]:
    tuned = _fine_tuned(ranking)
    yield _score_dots(ranking, metric) if ranking["target"].nunique() == 1 else _rank_map(ranking, metric)
    if not tuned.empty:
        yield _scatter(tuned, metric, words)


def _fine_tuned(ranking: pd.DataFrame) -> pd.DataFrame:
    return ranking[ranking["miou"].notna()]


def _miou_map(tuned: pd.DataFrame, words: Words) -> Plot:
    wide = tuned.drop_duplicates(["target", "source"]).pivot(index="target", columns="source", values="miou")
    n_targets, n_sources = wide.shape
    return Plot(
        "miou",
        "mIoU of every pair",
        f"Heat map of mIoU: {n_targets} targets in rows, {n_sources} sources in columns.",
        "Numbers are mIoU after fine-tuning, in hundredths. Color compares the sources of one target: 1 is its best, "
        "which is framed.",
        partial(_draw_miou_map, wide, words),
    )


def _draw_miou_map(wide: pd.DataFrame, words: Words) -> Figure:
    best = wide.max(axis=1)
    texts = wide.map(lambda value: "" if math.isnan(value) else f"{100 * value:.0f}")
    share = wide.div(best.where(best > 0), axis=0)
    return _heat_map(share, texts, words("mIoU / best mIoU of the target"), framed=wide.eq(best, axis=0))


def _rank_map(ranking: pd.DataFrame, metric: str) -> Plot:
    wide = _pivoted(ranking, metric, "score_rank")
    best = _pivoted(ranking, metric, "miou_rank").eq(1)
    framed = " The actual best source is framed." if best.to_numpy().any() else ""
    return Plot(
        file_stem("ranks", metric),
        f"Ranks by {metric}",
        f"Heat map of ranks by {metric}: {wide.shape[0]} targets in rows, {wide.shape[1]} sources in columns.",
        f"Each row ranks the sources of one target by their {metric} score; 1 is chosen.{framed}",
        partial(_draw_rank_map, wide, best, metric),
    )


def _score_dots(ranking: pd.DataFrame, metric: str) -> Plot:
    metric_rows = ranking[ranking["metric"] == metric]
    target = str(metric_rows["target"].iloc[0])
    errors = ""
    if metric_rows["standard_error"].notna().any():
        errors = (
            " Bars are 1.96 standard errors; differences are paired, so sources may differ although their bars overlap."
        )
    return Plot(
        file_stem("ranks", metric),
        f"Sources of {target} by {metric}",
        f"{len(metric_rows)} sources from the best to the worst, each a dot at its {metric} score.",
        f"Higher is better; the first is chosen.{errors}",
        partial(_draw_score_dots, metric_rows, metric),
    )


def _draw_score_dots(metric_rows: pd.DataFrame, metric: str) -> Figure:
    figure = Figure(figsize=(6.4, 1.1 + 0.28 * len(metric_rows)), layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(metric_rows), dtype=float)
    error = 1.96 * metric_rows["standard_error"].fillna(0.0).to_numpy()
    axes.errorbar(metric_rows["score"], positions, xerr=error, fmt="o", color=BLUE, markersize=6, linewidth=2)
    first = metric_rows["score_rank"].to_numpy() == 1
    axes.plot(metric_rows["score"][first], positions[first], "D", color=RED, markersize=8, zorder=3)
    axes.set_yticks(positions, [label(name) for name in metric_rows["source"]])
    axes.set(xlabel=f"{label(metric)} score, higher is better", ylabel="source", ylim=(len(metric_rows) - 0.5, -0.5))
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    return figure


def _pivoted(ranking: pd.DataFrame, metric: str, value: str) -> pd.DataFrame:
    metric_rows = ranking[ranking["metric"] == metric]
    return metric_rows.pivot(index="target", columns="source", values=value).astype("Float64").astype(float)


def _draw_rank_map(wide: pd.DataFrame, best: pd.DataFrame, metric: str) -> Figure:
    texts = wide.map(lambda value: "" if math.isnan(value) else f"{value:.0f}")
    return _heat_map(-wide, texts, f"rank by {label(metric)}", framed=best, ranks=True)


def _heat_map(
    values: pd.DataFrame, texts: pd.DataFrame, unit: str, *, framed: pd.DataFrame, ranks: bool = False
) -> Figure:
    """Draw targets in rows and sources in columns; missing values stay white."""
    n_rows, n_columns = values.shape
    figure = Figure(figsize=(2.3 + 0.42 * max(n_columns, 3), 1.9 + 0.32 * max(n_rows, 3)))
    axes = figure.add_subplot()
    data = np.ma.masked_invalid(values.to_numpy(dtype=float))
    mesh = axes.pcolormesh(data, cmap=HEAT, edgecolors="white", linewidth=0.8)
    low, high = (float(data.min()), float(data.max())) if data.count() else (0.0, 1.0)
    middle = (low + high) / 2
    for row, column in np.ndindex(n_rows, n_columns):
        text = str(texts.iat[row, column])
        if text:
            ink = "white" if data[row, column] < middle else INK
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color=ink)
            if bool(framed.iat[row, column]):
                axes.add_patch(_frame_patch(column, row))
    axes.set_xticks(np.arange(n_columns) + 0.5, [label(name) for name in values], rotation=90)
    axes.set_yticks(np.arange(n_rows) + 0.5, [label(name) for name in values.index])
    axes.set(xlabel="source", ylabel="target", xlim=(0, n_columns), ylim=(n_rows, 0))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02, aspect=30)
    bar.set_label(unit)
    bar.outline.set_visible(False)
    if ranks:
        ticks = np.unique(np.linspace(low, high, 5).round()).tolist()
        bar.set_ticks(ticks, labels=[f"{-tick:.0f}" for tick in ticks])
    return figure


def _frame_patch(column: int, row: int) -> Rectangle:
    return Rectangle((column + 0.06, row + 0.08), 0.88, 0.84, fill=False, edgecolor=RED, linewidth=2)


def _scatter(tuned: pd.DataFrame, metric: str, words: Words) -> Plot:
    metric_rows = tuned[tuned["metric"] == metric]
    n_targets = metric_rows["target"].nunique()
    return Plot(
        file_stem("scatter", metric),
        f"mIoU against {metric}, per target",
        f"{n_targets} panels, one per target: each source is a point at its {metric} score and its mIoU.",
        f"Each panel is one target, each point one source; tau_w, the weighted Kendall tau, is 1 where {metric} orders "
        "the sources as their mIoU does.",
        partial(_draw_scatter, metric_rows, metric, words),
    )


def _draw_scatter(metric_rows: pd.DataFrame, metric: str, words: Words) -> Figure:
    groups = [(str(name), members) for name, members in metric_rows.groupby("target")]
    n_columns = min(_PANELS_PER_ROW, len(groups))
    n_rows = math.ceil(len(groups) / n_columns)
    width, height = max(2.35 * n_columns, 5), 1.85 * n_rows + 0.9
    figure = Figure(figsize=(width, height))
    # Sizes are in inches; a layout engine would take ten times as long.
    figure.subplots_adjust(
        left=0.75 / width, right=1 - 0.05 / width, bottom=0.6 / height, top=1 - 0.55 / height, wspace=0.36, hspace=0.42
    )
    every = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, (name, members) in zip(every, groups, strict=False):
        _draw_panel(axes, name, members)
    for axes in every[len(groups) :]:
        axes.set_axis_off()
    figure.supxlabel(f"{label(metric)} score, higher is better", fontsize=9, y=0.1 / height)
    figure.supylabel(words("mIoU after fine-tuning"), fontsize=9, x=0.1 / width)
    handles = [
        Line2D([], [], color=RED, marker="D", linestyle="", label=f"chosen by {label(metric)}"),
        Line2D([], [], color=BLUE, marker="o", markersize=9, markerfacecolor="none", linestyle="", label="actual best"),
        Line2D([], [], color=GRAY, marker="o", markersize=4, linestyle="", label="other sources"),
    ]
    figure.legend(handles=handles, loc="upper center", ncols=3, fontsize=9)
    return figure


def _draw_panel(axes: Axes, name: str, members: pd.DataFrame) -> None:
    score, miou = members["score"].to_numpy(), members["miou"].to_numpy()
    chosen, best = score == score.max(), miou == miou.max()
    axes.plot(score[~chosen], miou[~chosen], "o", color=GRAY, markersize=4, alpha=0.8)
    axes.plot(score[chosen], miou[chosen], "D", color=RED, markersize=5)
    axes.plot(score[best], miou[best], "o", color=BLUE, markersize=10, markerfacecolor="none", markeredgewidth=1.5)
    tau = measures(miou, score)["tau_w"] if len(members) >= _MIN_POINTS else math.nan
    axes.set_title(f"{label(name, 16)}, tau_w {cell_text(tau, '.2f')}")
    axes.margins(0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3))
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)


def _stability(stability: pd.DataFrame) -> Plot:
    return Plot(
        "stability",
        "The ranking on fewer images",
        "Weighted tau between the ranking on fewer images and that on all images, against the number of images.",
        "Each point is one draw, the line their mean. At 1 the ranking is the same as on all images.",
        partial(_draw_stability, stability),
    )


def _draw_stability(stability: pd.DataFrame) -> Figure:
    lowest = float(stability["tau_w_to_full"].min())
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    means = stability.groupby("n_images")["tau_w_to_full"].mean()
    axes.plot(stability["n_images"], stability["tau_w_to_full"], "o", color=GRAY, markersize=4, alpha=0.7)
    axes.plot(means.index, means.to_numpy(), "-o", color=BLUE, linewidth=2)
    axes.set(xlabel="images", ylabel="tau_w to the ranking on all images", ylim=(min(0.0, lowest) - 0.05, 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(color="#e5e5e5", linewidth=0.6)
    handles = [
        Line2D([], [], color=BLUE, marker="o", label="mean over draws"),
        Line2D([], [], color=GRAY, marker="o", linestyle="", label="one draw"),
    ]
    axes.legend(handles=handles, loc="lower right")
    return figure
