"""The figures of a report that compare metrics with each other, with controls, and with fine-tuning itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seg_transfer.reports.drawing import BLUE, GRAY, GREEN, ORANGE, Plot, label
from seg_transfer.reports.performance import POINTS
from seg_transfer.reports.tables import TITLES

_ENDS = ("_low", "_high")
_CEILING = "one fine-tuning per pair"


def evaluation_plots(evaluation: pd.DataFrame) -> Iterator[Plot]:
    """Yield the figures of how well metrics rank, and of what their choices lose.

    Args:
        evaluation: Frame from `seg_transfer.evaluation.evaluate`.
    """
    ceiling = " The dashed line is what one fine-tuning per pair reaches." if _has_ceiling(evaluation) else ""
    yield Plot(
        "evaluation",
        "How well every metric ranks",
        "For every metric and control a dot and an interval of tau_w and top-1, for fixed targets and fixed sources.",
        "Dots are means over groups, bars their 95 % bootstrap intervals. Controls use no features: a metric that "
        f"does not beat them adds no information.{ceiling}",
        partial(_draw_measures, evaluation),
    )
    yield Plot(
        "regret",
        "What the choices of every metric lose",
        "For every metric and control a dot and an interval of regret, for fixed targets and fixed sources.",
        "Regret: mIoU of the best item minus that of the chosen one, in points (100 x); 0 is best. Dots are means over "
        f"groups, bars their 95 % bootstrap intervals.{ceiling}",
        partial(_draw_regrets, evaluation),
    )


def _has_ceiling(evaluation: pd.DataFrame) -> bool:
    return bool((evaluation["kind"] == "ceiling").any())


def _draw_measures(evaluation: pd.DataFrame) -> Figure:
    parts = list(evaluation.groupby("scenario", sort=False))
    most = max(len(rows) for _, rows in parts)
    figure = Figure(figsize=(8.2, 0.9 + len(parts) * (0.55 + 0.24 * most)), layout="constrained")
    grid = figure.subplots(len(parts), 2, squeeze=False)
    for line, (scenario, rows) in zip(grid, parts, strict=True):
        for axes, measure, name in zip(line, ("tau_w", "top1"), ("tau_w, mean", "top-1, share"), strict=True):
            _draw_panel(axes, rows, measure, by="tau_w")
            axes.set_xlabel(f"{name} over {int(rows['n_groups'].max())} groups")
        line[0].set_title(TITLES[str(scenario)], loc="left")
        line[1].set_yticklabels([])
    _add_legend(figure, evaluation)
    return figure


def _draw_regrets(evaluation: pd.DataFrame) -> Figure:
    parts = list(evaluation.groupby("scenario", sort=False))
    most = max(len(rows) for _, rows in parts)
    figure = Figure(figsize=(4.3 * len(parts), 1.2 + 0.24 * most), layout="constrained")
    for axes, (scenario, rows) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        # The lowest regret stands at the top.
        _draw_panel(axes, rows.assign(order=-rows["regret"]), "regret", by="order", scale=POINTS)
        axes.set_xlabel(f"regret in points, mean over {int(rows['n_groups'].max())} groups")
        axes.set_title(TITLES[str(scenario)], loc="left")
    _add_legend(figure, evaluation)
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame, measure: str, *, by: str, scale: float = 1) -> None:
    """Draw the metrics above the controls, each in the order of a column, and the ceiling as a line."""
    ranked = rows[rows["kind"] != "ceiling"]
    parts = [part.sort_values(by) for _, part in ranked.groupby("kind", sort=False)]
    ordered = pd.concat(parts[::-1], ignore_index=True)
    positions, values = np.arange(len(ordered)), {end: scale * ordered[f"{measure}{end}"] for end in ("", *_ENDS)}
    for is_metric, color, marker in ((True, BLUE, "o"), (False, ORANGE, "s")):
        shown = (ordered["kind"] == "metric").to_numpy() == is_metric
        lows, highs = (values[end][shown] for end in _ENDS)
        axes.hlines(positions[shown], lows, highs, colors=color, linewidths=2.2, capstyle="projecting")
        axes.plot(values[""][shown], positions[shown], marker, color=color, markersize=6)
    for value in rows.loc[rows["kind"] == "ceiling", measure]:
        axes.axvline(scale * value, color=GREEN, linewidth=1.2, linestyle="--")
    n_controls = int((ordered["kind"] == "control").sum())
    axes.axhline(n_controls - 0.5, color=GRAY, linewidth=0.6)
    axes.axvline(0, color=GRAY, linewidth=0.6)
    axes.set_yticks(positions, [label(name) for name in ordered["metric"]])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _add_legend(figure: Figure, evaluation: pd.DataFrame) -> None:
    handles = [
        Line2D([], [], color=BLUE, marker="o", label="metric"),
        Line2D([], [], color=ORANGE, marker="s", label="control"),
    ]
    if _has_ceiling(evaluation):
        handles.append(Line2D([], [], color=GREEN, linestyle="--", label=_CEILING))
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=9)
