"""The figures of a report, as functions of its content."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from seg_transfer.reports.content import ReportContent
from seg_transfer.reports.drawing import BLUE, GRAY, RED, Plot, file_stem, label
from seg_transfer.reports.evaluation_figures import evaluation_plots
from seg_transfer.reports.explanation_figures import explanation_plots
from seg_transfer.reports.heat_map import heat_map
from seg_transfer.reports.scatter import scatter
from seg_transfer.reports.sketch import Sketch

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
            for plot in _metric_plots(ranking, metric, words):
                yield replace(plot, is_main=False)


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


def _draw_miou_map(wide: pd.DataFrame, words: Words) -> Sketch:
    best = wide.max(axis=1)
    texts = wide.map(lambda value: "" if math.isnan(value) else f"{100 * value:.0f}")
    share = wide.div(best.where(best > 0), axis=0)
    return heat_map(share, texts, words("mIoU / best mIoU of the target"), framed=wide.eq(best, axis=0))


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


def _draw_rank_map(wide: pd.DataFrame, best: pd.DataFrame, metric: str) -> Sketch:
    texts = wide.map(lambda value: "" if math.isnan(value) else f"{value:.0f}")
    return heat_map(-wide, texts, f"rank by {label(metric)}", framed=best, ranks=True)


def _scatter(tuned: pd.DataFrame, metric: str, words: Words) -> Plot:
    metric_rows = tuned[tuned["metric"] == metric]
    n_targets = metric_rows["target"].nunique()
    return Plot(
        file_stem("scatter", metric),
        f"mIoU against {metric}, per target",
        f"{n_targets} panels, one per target: each source is a point at its {metric} score and its mIoU.",
        f"Each panel is one target, each point one source; tau_w, the weighted Kendall tau, is 1 where {metric} orders "
        "the sources as their mIoU does.",
        partial(scatter, metric_rows, metric, words("mIoU after fine-tuning")),
    )


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
