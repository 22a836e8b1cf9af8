"""Sketches: text, markers, lines and boxes at positions in inches, written as SVG or drawn by matplotlib.

matplotlib takes ten times as long to lay out the axes of a figure, and to write its SVG, as a sketch takes for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import Locator, MaxNLocator, ScalarFormatter

POINT = 1 / 72
"""Inches per point, the unit of font sizes and line widths."""
_Numbers = npt.NDArray[np.float64]
_MEASURING = 1000.0  # dots per inch, so that widths are not those of hinted pixels
_FONTS = "DejaVu Sans, Verdana, Arial, sans-serif"
_ANCHORS = {"left": "start", "center": "middle", "right": "end"}
# How far the baseline lies below the anchor of text, as a share of the font size, for capitals and digits.
_DROP = {"center": 0.36, "top": 0.76, "bottom": -0.24, "baseline": 0.0}


@dataclass(frozen=True)
class Sketch:
    """A drawing, width x height inches, whose origin is the lower left corner.

    Attributes:
        width: Its width.
        height: Its height.
        shapes: What is drawn, in order: every shape as SVG, and a function that adds it to a figure of matplotlib.
    """

    width: float
    height: float
    shapes: list[tuple[str, Callable[[Figure], Any]]] = field(default_factory=list)

    def svg(self) -> bytes:
        """Return the sketch as SVG."""
        size = f'width="{_pt(self.width)}pt" height="{_pt(self.height)}pt" viewBox="0 0 {_pt(self.width)} '
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}{_pt(self.height)}" font-family="{_FONTS}">'
        paper = '<rect width="100%" height="100%" fill="white"/>'
        return "\n".join([head, paper, *(shape for shape, _ in self.shapes), "</svg>"]).encode()

    def figure(self) -> Figure:
        """Return the sketch as a figure of matplotlib."""
        figure = Figure(figsize=(self.width, self.height))
        for order, (_, make) in enumerate(self.shapes):
            artist = make(figure)
            artist.set_transform(figure.dpi_scale_trans)
            artist.set_zorder(order)
            figure.add_artist(artist, clip=False)
        return figure


def write(
    sketch: Sketch,
    x: float,
    y: float,
    text: str,
    *,
    size: float = 8,
    color: str = "#1a1a1a",
    across: str = "center",
    down: str = "center",
    turned: bool = False,
) -> None:
    """Write text with its anchor at (x, y).

    Args:
        sketch: Where to write.
        x: Inches from the left.
        y: Inches from below.
        text: One line.
        size: Font size in points.
        color: Color of the text.
        across: Which part of the text the anchor is in reading direction: left, center or right.
        down: And across it: top, center, bottom or baseline.
        turned: Whether to turn the text by 90 degrees around its anchor, to be read from below.
    """
    left, top, drop = _pt(x), _pt(sketch.height - y), _DROP[down] * size
    place = f'transform="translate({left} {top}) rotate(-90)" y="{drop:.4g}"' if turned else ""
    place = place or f'x="{left}" y="{float(top) + drop:.6g}"'
    shape = f'<text {place} font-size="{size:g}" text-anchor="{_ANCHORS[across]}" fill="{color}">{escape(text)}</text>'
    style = {"ha": across, "va": "center_baseline" if down == "center" else down, "fontsize": size, "color": color}
    turn = {"rotation": 90 if turned else 0, "rotation_mode": "anchor"}
    sketch.shapes.append((shape, lambda _: Text(x, y, text, **style, **turn)))  # type: ignore[arg-type]


def mark(sketch: Sketch, x: _Numbers, y: _Numbers, form: str, color: str, size: float, *, hollow: bool = False) -> None:
    """Draw a marker, "o" or the diamond "D", `size` points wide, at every (x, y)."""
    fill = f'fill="none" stroke="{color}" stroke-width="1.5"' if hollow else f'fill="{color}"'
    middles = [(_pt(one), _pt(sketch.height - other)) for one, other in zip(x, y, strict=True)]
    if form == "o":
        shapes = [f'<circle cx="{one}" cy="{other}" r="{size / 2:g}"/>' for one, other in middles]
    else:
        half = size / 2**0.5
        path = f"m0 {-half:.4g}l{half:.4g} {half:.4g} {-half:.4g} {half:.4g} {-half:.4g} {-half:.4g}z"
        shapes = [f'<path transform="translate({one} {other})" d="{path}"/>' for one, other in middles]
    style = {"markerfacecolor": "none", "markeredgewidth": 1.5} if hollow else {"markeredgewidth": 0}
    line: Any = {"linestyle": "", "marker": form, "color": color, "markersize": size, **style}
    sketch.shapes.append((f"<g {fill}>{''.join(shapes)}</g>", lambda _: Line2D(x, y, **line)))


def strokes(sketch: Sketch, segments: Sequence[tuple[float, float, float, float]], color: str, width: float) -> None:
    """Draw lines from (x0, y0) to (x1, y1), `width` points wide."""
    top = sketch.height
    path = "".join(f"M{_pt(a)} {_pt(top - b)}L{_pt(c)} {_pt(top - d)}" for a, b, c, d in segments)
    ends = [[(a, b), (c, d)] for a, b, c, d in segments]
    shape = f'<path d="{path}" stroke="{color}" stroke-width="{width:g}"/>'
    sketch.shapes.append((shape, lambda _: LineCollection(ends, colors=color, linewidths=width)))


def boxes(sketch: Sketch, corners: _Numbers, fills: Sequence[str], edge: str, width: float) -> None:
    """Draw rectangles with corners (n, 4), which are left, bottom, right and top; the fill may be "none"."""
    rectangles = [
        f'<rect x="{_pt(a)}" y="{_pt(sketch.height - d)}" width="{_pt(c - a)}" height="{_pt(d - b)}" fill="{fill}"/>'
        for (a, b, c, d), fill in zip(corners.tolist(), fills, strict=True)
    ]
    around = list(corners[:, [[0, 1], [2, 1], [2, 3], [0, 3]]])
    style: Any = {"facecolors": list(fills), "edgecolors": edge, "linewidths": width}
    shape = f'<g stroke="{edge}" stroke-width="{width:g}">{"".join(rectangles)}</g>'
    sketch.shapes.append((shape, lambda _: PolyCollection(around, **style)))


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Return the width of text in inches."""
    renderer: Any = RendererAgg(1, 1, _MEASURING)  # type: ignore[no-untyped-call]
    return float(renderer.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]) / _MEASURING


def ticks(low: float, high: float, locator: Locator) -> tuple[_Numbers, list[str], str]:
    """Return the ticks of an axis from `low` to `high`, their labels, and what all of these are multiplied by or added
    to; "" if nothing.
    """
    places = np.asarray(locator.tick_values(low, high))
    slack = 1e-10 * (high - low)
    places = places[(places >= low - slack) & (places <= high + slack)]
    formatter: Any = ScalarFormatter()
    formatter.create_dummy_axis()
    formatter.axis.set_view_interval(low, high)
    formatter.set_locs(places)
    return places, [formatter(place) for place in places], formatter.get_offset()


def with_margin(values: _Numbers, share: float) -> tuple[float, float]:
    """Return the ends of an axis that shows all values and a share of their range on both sides."""
    low, high = MaxNLocator().nonsingular(float(values.min()), float(values.max()))
    return low - share * (high - low), high + share * (high - low)


def _pt(inches: float) -> str:
    return f"{float(inches) / POINT:.6g}"
