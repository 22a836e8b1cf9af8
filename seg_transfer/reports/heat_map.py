"""Heat maps of pairs: targets in rows, sources in columns."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from seg_transfer.reports.drawing import HEAT, INK, PADDING, RED, label
from seg_transfer.reports.sketch import POINT, Sketch, boxes, strokes, text_width, ticks, write

_LINE = 9 * POINT * 1.3  # height of a line of an axis label
_GAP = 4 * POINT
_TICK = 3.5 * POINT
_BAR_GAP = 0.02
_BAR_STEPS = 64


def heat_map(
    values: pd.DataFrame, texts: pd.DataFrame, unit: str, *, framed: pd.DataFrame, ranks: bool = False
) -> Sketch:
    """Draw a heat map with a scale; missing values stay white.

    Args:
        values: What decides the color of every cell; NaN where there is none.
        texts: What is written in every cell.
        unit: The label of the scale.
        framed: Which cells have a frame.
        ranks: Whether the values are negative ranks, which the scale shows as ranks.
    """
    n_rows, n_columns = values.shape
    rows, columns = ([label(name) for name in names] for names in (values.index, values))
    # The size of a cell is that in a figure of matplotlib's default margins, which grows with the table.
    across = 0.72 * (2.3 + 0.42 * max(n_columns, 3))
    down = 0.77 * (1.9 + 0.32 * max(n_rows, 3))
    left = PADDING + _LINE + _GAP + max(text_width(text, 8) for text in rows) + _TICK
    bottom = PADDING + _LINE + _GAP + max(text_width(text, 8) for text in columns) + _TICK
    low, high, marks = _scale(values.to_numpy(dtype=float), ranks)
    bar = left + across * (1 + _BAR_GAP), bottom, min(0.05 * across, down / 30), down
    width = bar[0] + bar[2] + 2 * _TICK + max(text_width(text, 8) for _, text in marks) + _GAP + _LINE + PADDING
    sketch = Sketch(width, bottom + down + PADDING)
    cells = _cells(left, bottom, across / n_columns, down / n_rows, n_rows, n_columns)
    _draw_cells(sketch, cells, values.to_numpy(dtype=float), texts, framed, (low, high))
    for row, text in enumerate(rows):
        write(sketch, left - _TICK, _middle(cells[row, 0])[1], text, across="right")
    for column, text in enumerate(columns):
        write(sketch, _middle(cells[0, column])[0], bottom - _TICK, text, across="right", turned=True)
    write(sketch, left + across / 2, PADDING, "source", down="bottom", size=9)
    write(sketch, PADDING, bottom + down / 2, "target", down="top", turned=True, size=9)
    _draw_bar(sketch, bar, (low, high), marks)
    write(sketch, width - PADDING, bottom + down / 2, unit, down="bottom", turned=True, size=9)
    return sketch


def _scale(data: npt.NDArray[np.float64], ranks: bool) -> tuple[float, float, list[tuple[float, str]]]:
    """Return the lowest and the highest value, and the marks of the scale."""
    known = data[~np.isnan(data)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if ranks:
        return low, high, [(tick, f"{-tick:.0f}") for tick in np.unique(np.linspace(low, high, 5).round()).tolist()]
    if low == high:
        return low, high, [(low, f"{low:.2f}")]
    places, texts, _ = ticks(low, high, MaxNLocator(9, steps=[1, 2, 2.5, 5, 10]))
    return low, high, list(zip(places.tolist(), texts, strict=True))


def _cells(
    left: float, bottom: float, width: float, height: float, n_rows: int, n_columns: int
) -> npt.NDArray[np.float64]:
    """Return corners (rows, columns, 4) of all cells; the first row is at the top."""
    x, y = np.meshgrid(left + width * np.arange(n_columns), bottom + height * np.arange(n_rows)[::-1])
    return np.stack([x, y, x + width, y + height], axis=-1)


def _middle(corners: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(corners[0] + corners[2]) / 2, float(corners[1] + corners[3]) / 2


def _draw_cells(
    sketch: Sketch,
    cells: npt.NDArray[np.float64],
    data: npt.NDArray[np.float64],
    texts: pd.DataFrame,
    framed: pd.DataFrame,
    limits: tuple[float, float],
) -> None:
    known = ~np.isnan(data)
    boxes(sketch, cells[known], _colors(_shares(data[known], limits)), "white", 0.8)
    middle = sum(limits) / 2
    for place in np.argwhere(known):
        row, column = map(int, place)
        if text := str(texts.iat[row, column]):
            write(sketch, *_middle(cells[row, column]), text, color="white" if data[row, column] < middle else INK)
    frames = cells[known & framed.to_numpy(dtype=bool) & (texts.to_numpy() != "")]
    if len(frames):
        size = frames[:, 2:] - frames[:, :2]
        inner = frames + np.concatenate([0.06 * size, -0.06 * size], axis=1)
        boxes(sketch, inner, ["none"] * len(inner), RED, 2)


def _draw_bar(
    sketch: Sketch,
    bar: tuple[float, float, float, float],
    limits: tuple[float, float],
    marks: list[tuple[float, str]],
) -> None:
    """Draw the scale (left, bottom, width, height) and its marks."""
    left, bottom, width, height = bar
    steps = np.linspace(bottom, bottom + height, _BAR_STEPS + 1)
    # Every step reaches to the top, under those that follow, so that no gap is seen between them.
    ends = np.array([(left, step, left + width, bottom + height) for step in steps[:-1]])
    boxes(sketch, ends, _colors(np.linspace(0, 1, _BAR_STEPS)), "none", 0)
    right = left + width
    for value, text in marks:
        y = bottom + height * float(_shares(np.array([value]), limits)[0])
        strokes(sketch, [(right, y, right + _TICK, y)], INK, 0.8)
        write(sketch, right + 2 * _TICK, y, text, across="left")


def _colors(shares: npt.NDArray[np.float64]) -> list[str]:
    """Return the colors of shares of the scale."""
    return [to_hex(color) for color in mpl.colormaps[HEAT](shares)]


def _shares(values: npt.NDArray[np.float64], limits: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return values as shares of the scale; that of a single value is 0."""
    low, high = limits
    return (values - low) / ((high - low) or 1.0)
