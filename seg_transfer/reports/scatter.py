"""Panels of points, one panel per target: the score of every source and its performance."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from seg_transfer.evaluation import measures
from seg_transfer.reports.data_table import cell_text
from seg_transfer.reports.drawing import BLUE, GRAY, RED, label
from seg_transfer.reports.sketch import POINT, Sketch, mark, strokes, text_width, ticks, with_margin, write

_PANELS_PER_ROW = 4
_MIN_POINTS = 2
_TICK = 3.5 * POINT
_GRID = "#e5e5e5"
_POINTS = "#919191"  # gray, four fifths of it
# Inches.
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.75, 0.05, 0.6, 0.55
_PANEL_WIDTH, _PANEL_HEIGHT, _ACROSS, _DOWN = 2.35, 1.85, 0.36, 0.42

Box = tuple[float, float, float, float]


def scatter(metric_rows: pd.DataFrame, metric: str, performance: str) -> Sketch:
    """Draw a panel per target, in which every source is a point.

    Args:
        metric_rows: Columns target, score, miou.
        metric: Name of the metric.
        performance: Name of what the column miou holds.
    """
    groups = [(str(name), members) for name, members in metric_rows.groupby("target")]
    n_columns = min(_PANELS_PER_ROW, len(groups))
    n_rows = math.ceil(len(groups) / n_columns)
    width, height = max(_PANEL_WIDTH * n_columns, 5), _PANEL_HEIGHT * n_rows + 0.9
    sketch = Sketch(width, height)
    for index, (name, members) in enumerate(groups):
        _draw_panel(sketch, _box(width, height, (n_rows, n_columns), divmod(index, n_columns)), name, members)
    write(sketch, width / 2, 0.1, f"{label(metric)} score, higher is better", down="bottom", size=9)
    write(sketch, 0.1, height / 2, performance, down="top", turned=True, size=9)
    _draw_legend(sketch, metric)
    return sketch


def _draw_legend(sketch: Sketch, metric: str) -> None:
    """Explain the markers in one line at the top."""
    texts = (f"chosen by {label(metric)}", "actual best", "other sources")
    marker, gap = 0.35, 0.25
    widths = [marker + text_width(text, 9) for text in texts]
    x, y = (sketch.width - sum(widths) - gap * (len(texts) - 1)) / 2, sketch.height - 0.18
    for text, width, (form, color, size) in zip(
        texts, widths, (("D", RED, 7), ("o", BLUE, 9), ("o", GRAY, 5)), strict=True
    ):
        mark(sketch, np.array([x + marker / 2]), np.array([y]), form, color, size, hollow=color == BLUE)
        write(sketch, x + marker, y, text, across="left", size=9)
        x += width + gap


def _box(width: float, height: float, grid: tuple[int, int], place: tuple[int, int]) -> Box:
    """Return left, bottom, width and height of a panel; the gaps between panels are shares of their size."""
    (n_rows, n_columns), (row, column) = grid, place
    across = (width - _LEFT - _RIGHT) / (n_columns + _ACROSS * (n_columns - 1))
    down = (height - _BOTTOM - _TOP) / (n_rows + _DOWN * (n_rows - 1))
    top = height - _TOP - row * down * (1 + _DOWN)
    return _LEFT + column * across * (1 + _ACROSS), top - down, across, down


def _draw_panel(sketch: Sketch, box: Box, name: str, members: pd.DataFrame) -> None:
    left, bottom, width, height = box
    score, miou = members["score"].to_numpy(dtype=float), members["miou"].to_numpy(dtype=float)
    x_ends, y_ends = with_margin(score, 0.12), with_margin(miou, 0.12)
    _draw_frame(sketch, box, x_ends, y_ends)
    x = left + width * (score - x_ends[0]) / (x_ends[1] - x_ends[0])
    y = bottom + height * (miou - y_ends[0]) / (y_ends[1] - y_ends[0])
    chosen, best = score == score.max(), miou == miou.max()
    mark(sketch, x[~chosen], y[~chosen], "o", _POINTS, 5)
    mark(sketch, x[chosen], y[chosen], "D", RED, 6)
    mark(sketch, x[best], y[best], "o", BLUE, 10, hollow=True)
    tau = measures(miou, score)["tau_w"] if len(members) >= _MIN_POINTS else math.nan
    title = f"{label(name, 16)}, tau_w {cell_text(tau, '.2f')}"
    write(sketch, left + width / 2, bottom + height + 6 * POINT, title, down="baseline", size=9)


def _draw_frame(sketch: Sketch, box: Box, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> None:
    """Draw the left and the lower edge of a panel, and its ticks with their grid."""
    left, bottom, width, height = box
    right, top = left + width, bottom + height
    (x_ticks, x_texts, x_factor), (y_ticks, y_texts, y_factor) = (
        ticks(*ends, MaxNLocator(3)) for ends in (x_ends, y_ends)
    )
    xs = (left + width * (x_ticks - x_ends[0]) / (x_ends[1] - x_ends[0])).tolist()
    ys = (bottom + height * (y_ticks - y_ends[0]) / (y_ends[1] - y_ends[0])).tolist()
    strokes(sketch, [*((x, bottom, x, top) for x in xs), *((left, y, right, y) for y in ys)], _GRID, 0.6)
    strokes(sketch, [(left, bottom, right, bottom), (left, bottom, left, top)], GRAY, 0.8)
    small = [*((x, bottom, x, bottom - _TICK) for x in xs), *((left, y, left - _TICK, y) for y in ys)]
    strokes(sketch, small, "#1a1a1a", 0.8)
    for x, text in zip(xs, x_texts, strict=True):
        write(sketch, x, bottom - 2 * _TICK, text, down="top")
    for y, text in zip(ys, y_texts, strict=True):
        write(sketch, left - 2 * _TICK, y, text, across="right")
    if x_factor:
        write(sketch, right, bottom - 2 * _TICK - 10 * POINT, x_factor, across="right", down="top")
    if y_factor:
        write(sketch, left, top + 2 * POINT, y_factor, across="left", down="bottom")
