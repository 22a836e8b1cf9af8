"""Draws figures in one style, without global state, and with equal bytes for equal input."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from seg_transfer.reports.sketch import Sketch

# The palette of Okabe and Ito, whose colors are distinguishable with any color vision.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
)  # fmt: skip
GRAY, INK = "#767676", "#1a1a1a"
HEAT = "cividis"
_PNG_DPI = 160
PADDING = 0.08
"""Padding around a figure, in inches."""
# With these settings, "$" in a name does not start a formula, text stays text, and SVG identifiers are reproducible.
_STYLE: Any = {
    "axes.edgecolor": GRAY,
    "axes.grid": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.unicode_minus": True,
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "seg_transfer",
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}


@dataclass(frozen=True)
class Plot:
    """A figure of a report before it is drawn.

    Attributes:
        name: Stem of its files.
        title: Its heading.
        alt: Description for readers who cannot see the figure.
        caption: Explanation of how to read the figure.
        draw: Function that draws it.
        is_main: Whether it is written as PNG too, for slides and mails.
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure | Sketch]
    is_main: bool = True


@dataclass(frozen=True)
class Picture:
    """A figure as SVG, and as PNG if it is a main one."""

    plot: Plot
    svg: bytes
    png: bytes | None


def picture(plot: Plot) -> Picture:
    """Draw a figure; a character that is missing in all fonts becomes a box, without a warning."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = plot.draw()
        if isinstance(drawn, Sketch):
            return Picture(plot, drawn.svg(), _saved(drawn.figure(), "png", None) if plot.is_main else None)
        box = _tight_box(drawn)
        return Picture(plot, _saved(drawn, "svg", box), _saved(drawn, "png", box) if plot.is_main else None)


def _tight_box(figure: Figure) -> Bbox:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it has done its work; every drawing would repeat it
    return figure.get_tightbbox().padded(PADDING)


def label(name: object, max_length: int = 22) -> str:
    """Shorten a name to a one-line label without characters that SVG does not allow.

    Args:
        name: Any name.
        max_length: Maximum number of characters.

    Example:
        >>> ascii(label("a\\x1bb")), label("abcdefghij", max_length=6)
        ("'a\\\\ufffdb'", 'abcde…')
    """
    plain = re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(name))
    return plain if len(plain) <= max_length else plain[: max_length - 1] + "…"


def file_stem(*parts: object) -> str:
    """Make a file stem from any names; different names give different stems.

    Example:
        >>> file_stem("ranks", "gbc"), file_stem("ranks", "a/../b")
        ('ranks_gbc', 'ranks_a_.._b-3d1abb43')
    """
    raw = "_".join(map(str, parts))
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", raw)[:80]
    return plain if plain == raw else f"{plain}-{hashlib.sha256(raw.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _saved(figure: Figure, form: str, box: Bbox | None) -> bytes:
    stream = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {}
    figure.savefig(stream, format=form, dpi=_PNG_DPI, metadata=metadata, bbox_inches=box)
    return stream.getvalue()
