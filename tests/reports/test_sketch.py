"""Sketches: every shape lies where it should in SVG, and matplotlib draws the same."""

import io
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from report_inputs import ATTACK

from seg_transfer.reports.content import build
from seg_transfer.reports.drawing import HEAT, picture
from seg_transfer.reports.figures import all_plots
from seg_transfer.reports.heat_map import heat_map
from seg_transfer.reports.published import published_input
from seg_transfer.reports.scatter import scatter
from seg_transfer.reports.sketch import Sketch, boxes, mark, strokes, text_width, ticks, with_margin, write

SVG = "{http://www.w3.org/2000/svg}"


def elements(sketch: Sketch, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(sketch.svg()).iter(SVG + tag))


def test_shapes_lie_at_inches_from_the_lower_left_corner():
    sketch = Sketch(4, 3)
    write(sketch, 1, 1, "turned", size=10, down="top", turned=True)
    write(sketch, 1, 1, "a < b", size=10, across="right")
    mark(sketch, np.array([2.0]), np.array([0.5]), "o", "#0072B2", 8)
    strokes(sketch, [(0, 0, 1, 3)], "#767676", 1)
    boxes(sketch, np.array([[1.0, 1.0, 3.0, 2.0]]), ["#00ff00"], "white", 1)
    turned, plain = elements(sketch, "text")
    assert (turned.get("transform"), turned.get("y")) == ("translate(72 144) rotate(-90)", "7.6")
    assert (plain.get("x"), plain.get("y"), plain.get("text-anchor")) == ("72", "147.6", "end")
    assert plain.text == "a < b"
    (circle,) = elements(sketch, "circle")
    assert (circle.get("cx"), circle.get("cy"), circle.get("r")) == ("144", "180", "4")
    (path,) = elements(sketch, "path")
    assert path.get("d") == "M0 216L72 0"
    _, box = elements(sketch, "rect")
    assert [box.get(name) for name in ("x", "y", "width", "height")] == ["72", "72", "144", "72"]


def test_matplotlib_draws_the_same_shapes():
    sketch = Sketch(4, 3)
    boxes(sketch, np.array([[1.0, 1.0, 3.0, 2.0]]), ["#00ff00"], "none", 0)
    mark(sketch, np.array([0.5]), np.array([2.5]), "o", "#ff0000", 36)
    stream = io.BytesIO()
    sketch.figure().savefig(stream, format="png", dpi=100)
    pixels = np.asarray(Image.open(stream).convert("RGB"))
    assert pixels.shape == (300, 400, 3)
    green, red = ((pixels == color).all(axis=2) for color in ((0, 255, 0), (255, 0, 0)))
    assert green[101:199, 101:299].all()
    assert green.sum() <= 102 * 202
    assert red.sum() == pytest.approx(np.pi * 25**2, rel=0.1)
    assert np.argwhere(red).mean(axis=0) == pytest.approx([49.5, 49.5], abs=1)


def test_the_width_of_text_grows_with_its_length_and_size():
    assert text_width("mmmm", 8) == pytest.approx(4 * text_width("m", 8), rel=0.1)
    assert text_width("m", 16) == pytest.approx(2 * text_width("m", 8), rel=0.05)
    assert 0.04 < text_width("0", 8) < 0.08  # about 0.6 of 8 points


def test_ticks_are_round_numbers_within_the_axis():
    places, texts, factor = ticks(0.13, 0.42, MaxNLocator(3))
    assert places.tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert (texts, factor) == (["0.2", "0.3", "0.4"], "")
    places, texts, factor = ticks(0.9e-6, 3.1e-6, MaxNLocator(3, steps=[1, 10]))
    assert places.tolist() == pytest.approx([1e-6, 2e-6, 3e-6])
    assert (texts, factor.replace("\N{MINUS SIGN}", "-")) == (["1", "2", "3"], "1e-6")


def test_margins_are_a_share_of_the_range_and_constants_have_one_too():
    assert with_margin(np.array([1.0, 3.0]), 0.1) == pytest.approx((0.8, 3.2))
    low, high = with_margin(np.array([2.0, 2.0]), 0.1)
    assert low < 2 < high


def test_cells_have_the_colors_of_their_values_and_missing_ones_none():
    values = pd.DataFrame([[1.0, np.nan], [0.0, 0.5]], index=["t", ATTACK], columns=["a", "b"])
    texts = values.map(lambda value: "" if np.isnan(value) else f"{value:.1f}")
    sketch = heat_map(values, texts, "unit", framed=values.eq(1.0))
    lowest, middle, highest = (mpl.colors.to_hex(mpl.colormaps[HEAT](share)) for share in (0.0, 0.5, 1.0))
    paper, *cells = [one.get("fill") for one in elements(sketch, "rect")]
    # Three cells, the frame of the best, and the scale.
    assert (paper, *cells[:5], cells[-1]) == ("white", highest, lowest, middle, "none", lowest, highest)
    assert [one.text for one in elements(sketch, "text")][:3] == ["1.0", "0.0", "0.5"]


def test_points_of_a_panel_are_in_the_order_of_scores_and_miou():
    rows = pd.DataFrame({"target": "t", "source": list("abc"), "score": [1.0, 2.0, 4.0], "miou": [0.5, 0.1, 0.3]})
    others, _, best, *_ = elements(scatter(rows, "gbc", "mIoU"), "g")
    (first, second), (circled,) = (one.findall(SVG + "circle") for one in (others, best))
    assert float(first.attrib["cx"]) < float(second.attrib["cx"])
    assert float(first.attrib["cy"]) < float(second.attrib["cy"])  # counted from the top
    assert [circled.get(name) for name in ("cx", "cy")] == [first.get(name) for name in ("cx", "cy")]


def test_matplotlib_draws_only_main_figures_and_each_once_per_format(monkeypatch):
    saved: list[str] = []
    original = Figure.savefig

    def counted(self, stream, **options):
        saved.append(options["format"])
        original(self, stream, **options)

    monkeypatch.setattr(Figure, "savefig", counted)
    plots = list(all_plots(build(published_input())))
    for plot in plots:
        picture(plot)
    # Sketches: mIoU, and ranks and scatter by the metric that recommends. Of matplotlib: evaluation and regret.
    assert sorted(saved) == ["png"] * 5 + ["svg"] * 2
    assert len(plots) == 15
