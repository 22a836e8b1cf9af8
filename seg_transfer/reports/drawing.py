"""How figures are drawn: one style, no global state, the same bytes for the same input."""

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

# Okabe and Ito: told apart with any colour vision. The names say what a colour stands for.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
)  # fmt: skip
GREY, INK = "#767676", "#1a1a1a"
HEAT = "cividis"
_PNG_DPI = 160
_PADDING = 0.08
"""Inches around a figure."""
# A name may hold "$" and is never a formula; text stays text, and identifiers in the SVG do not change.
_STYLE: Any = {
    "axes.edgecolor": GREY,
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
        alt: What a reader who does not see it should know.
        caption: How to read it.
        draw: Makes it.
    """

    name: str
    title: str
    alt: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Picture:
    """A figure as files: SVG and PNG."""

    plot: Plot
    svg: bytes
    png: bytes


def picture(plot: Plot) -> Picture:
    """Draw a figure; a letter that no font has becomes a box, without a warning."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = plot.draw()
        figure.draw_without_rendering()
        box = figure.get_tightbbox().padded(_PADDING)
        return Picture(plot, _saved(figure, "svg", box), _saved(figure, "png", box))


def label(name: object, most: int = 22) -> str:
    """A name as a label: on one line, without characters that an SVG must not hold, and short.

    >>> ascii(label("a\\x1bb")), label("abcdefghij", most=6)
    ("'a\\\\ufffdb'", 'abcde…')
    """
    plain = re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(name))
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def file_stem(*parts: object) -> str:
    """A stem of a file name made of names of any kind; different names give different stems.

    >>> file_stem("ranks", "gbc"), file_stem("ranks", "a/../b")
    ('ranks_gbc', 'ranks_a_.._b-3d1abb43')
    """
    raw = "_".join(map(str, parts))
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", raw)[:80]
    return plain if plain == raw else f"{plain}-{hashlib.sha256(raw.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _saved(figure: Figure, form: str, box: Bbox) -> bytes:
    stream = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {}
    figure.savefig(stream, format=form, dpi=_PNG_DPI, metadata=metadata, bbox_inches=box)
    return stream.getvalue()
