"""The page of a race: the answer, who reached what, mIoU over steps, and held-out images beside predictions."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from seg_transfer import __version__
from seg_transfer.reports.content import Fact
from seg_transfer.reports.data_table import Table
from seg_transfer.reports.drawing import BLUE, GRAY, GREEN, INK, ORANGE, PURPLE, RED, SKY, Plot, label, picture
from seg_transfer.reports.exports import write_tables
from seg_transfer.reports.page import PAGE_FOLDER, cells, column_list, environment, policy
from seg_transfer.reports.report import write_picture
from seg_transfer.store.atomic import write_text

PAGE = "choice.html"
_OTHERS = (ORANGE, GREEN, RED, PURPLE, SKY)
_LABELED_LINES = 12
_LEGEND_COLUMNS = 4
_LINE_HEIGHT = 0.06
"""Height of a name in the figure of a race, as a share of its axis."""


@dataclass(frozen=True)
class Panels:
    """A held-out image on the page.

    Attributes:
        name: Name of the image.
        miou: What the winner reaches on it, a fraction in [0, 1].
        pictures: JPEG files: the image, its labels, and the prediction.
    """

    name: str
    miou: float
    pictures: tuple[bytes, ...]


@dataclass(frozen=True)
class RaceReport:
    """What the page of a race shows.

    Attributes:
        target: Name of the target.
        best: The winner.
        facts: The answer, in reading order.
        race: One row per source: place, source, family, miou, low, high, steps, score_rank, seconds, left.
        curves: One row per judgment: source, steps, miou.
        of_steps: Steps of the whole schedule.
        panels: Held-out images.
        colors: Class -> its color.
    """

    target: str
    best: str
    facts: Sequence[Fact]
    race: pd.DataFrame
    curves: pd.DataFrame
    of_steps: int
    panels: Sequence[Panels]
    colors: Mapping[str, tuple[int, int, int]]


def write_race_page(report: RaceReport, folder: Path) -> list[Path]:
    """Write ``choice.html``, its figures, and the race as .parquet, .csv and .md; returns the files, the page first."""
    table = race_table(report)
    pictures = [picture(race_plot(report)), picture(_legend_plot(report))]
    style = (PAGE_FOLDER / "report.css").read_text("utf-8")
    page = (
        environment()
        .get_template("choice.html.j2")
        .render(
            report=report,
            table=table,
            images={drawn.plot.name: {"plot": drawn.plot, "uri": _uri("svg+xml", drawn.svg)} for drawn in pictures},
            panels=[(one, [_uri("jpeg", data) for data in one.pictures]) for one in report.panels],
            cells=cells,
            column_list=column_list,
            version=__version__,
            policy=policy(style, ""),
            style=Markup(style),
        )
    )
    write_text(folder / PAGE, page)
    figures: list[Path] = [file for drawn in pictures for file in write_picture(drawn, folder / "figures")]
    return [folder / PAGE, *figures, *write_tables([table], folder)]


def race_table(report: RaceReport) -> Table:
    """Return the race as a table of the page, in which its mIoU is not taken for that on an eval split."""
    names = {
        "miou": "held_out_miou",
        "low": "held_out_low",
        "high": "held_out_high",
        "steps": "raced_steps",
        "score_rank": "rank_by_score",
    }
    frame = report.race.rename(columns=names)
    page = frame.drop(columns="family") if frame["family"].nunique() < 2 else frame
    return Table("race", f"The race for {report.target}", frame, page=page)


def race_plot(report: RaceReport) -> Plot:
    """Return the figure of what every racer reached after how many steps."""
    n_racers = report.curves["source"].nunique()
    return Plot(
        "race",
        "mIoU on held-out images over steps",
        f"Lines of mIoU over steps, one per source; {report.best} won.",
        f"One line per source; a circle marks where it was judged, a square where it left. {report.best} won. Racers "
        f"follow the schedule of {report.of_steps} steps, whose learning rate falls to zero only at its end."
        + (f" The first {_LABELED_LINES} of {n_racers} have names." if n_racers > _LABELED_LINES else ""),
        lambda: _draw_race(report),
    )


def _draw_race(report: RaceReport) -> Figure:
    figure = Figure(figsize=(7.5, 3.8))
    axes = figure.subplots()
    names = list(dict.fromkeys(report.curves["source"]))
    for index, name in enumerate(names):
        course = report.curves[report.curves["source"] == name]
        won = name == report.best
        color = BLUE if won else _OTHERS[(index - 1) % len(_OTHERS)] if index <= len(_OTHERS) else GRAY
        line: Any = {"color": color, "linewidth": 2.2 if won else 1.2, "zorder": 3 if won else 2}
        axes.plot(course["steps"], course["miou"], marker="o", markersize=3.5, **line)
        last = course.iloc[-1]
        axes.plot([last["steps"]], [last["miou"]], marker="D" if won else "s", markersize=7 if won else 5, **line)
    _name_lines(axes, report, names[:_LABELED_LINES])
    axes.set_xlim(0, report.of_steps * 1.18)
    axes.axvline(report.of_steps, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"steps, of {report.of_steps}")
    axes.set_ylabel("mIoU on held-out images")
    return figure


def _name_lines(axes: Axes, report: RaceReport, names: Sequence[str]) -> None:
    """Write the names of racers behind the ends of their lines, apart where these are close."""
    ends = report.curves.groupby("source", sort=False).last().loc[list(names)]
    low, high = axes.get_ylim()
    for steps, members in ends.groupby("steps"):
        heights = spread_apart(members["miou"].tolist(), _LINE_HEIGHT * (high - low))
        for name, height in zip(members.index, heights, strict=True):
            weight = "bold" if name == report.best else "normal"
            axes.annotate(
                label(name), (steps, height), (7, 0), textcoords="offset points", va="center", fontsize=8, color=INK,
                fontweight=weight,
            )  # fmt: skip


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart, as little as possible, until neighbors differ by a gap; their order stays.

    >>> spread_apart([1.0, 1.0, 5.0], 2.0)
    [0.0, 2.0, 5.0]
    """
    clusters: list[list[int]] = []
    centers: list[float] = []
    for index in sorted(range(len(heights)), key=lambda at: heights[at]):
        clusters.append([index])
        centers.append(heights[index])
        while len(clusters) > 1 and centers[-1] - centers[-2] < gap * (len(clusters[-1]) + len(clusters[-2])) / 2:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
            centers[-2:] = [sum(heights[at] for at in clusters[-1]) / len(clusters[-1])]
    moved = list(heights)
    for cluster, center in zip(clusters, centers, strict=True):
        for place, index in enumerate(cluster):
            moved[index] = center + gap * (place - (len(cluster) - 1) / 2)
    return moved


def _legend_plot(report: RaceReport) -> Plot:
    return Plot(
        "classes",
        "Colors of the classes",
        f"Colors of {len(report.colors)} classes.",
        "Pixels without a label show the image.",
        lambda: _draw_legend(report.colors),
    )


def _draw_legend(colors: Mapping[str, tuple[int, int, int]]) -> Figure:
    rows = -(-len(colors) // _LEGEND_COLUMNS)
    figure = Figure(figsize=(7.5, 0.24 * rows + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, _LEGEND_COLUMNS)
    axes.set_ylim(rows, 0)
    for index, (name, color) in enumerate(colors.items()):
        column, row = index // rows, index % rows
        axes.add_patch(_patch(column, row, color))
        axes.text(column + 0.12, row + 0.5, label(name), va="center", fontsize=8, color=INK)
    return figure


def _patch(column: float, row: float, color: tuple[int, int, int]) -> Rectangle:
    return Rectangle((column + 0.01, row + 0.2), 0.08, 0.6, color=tuple(value / 255 for value in color))


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
