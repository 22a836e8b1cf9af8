"""Renders the report as one self-contained HTML page that embeds its style, script and figures.

All text passes through Jinja2's autoescape; figures are images with a data URI, in which no script runs. The style and
script are files of this package, and the content security policy allows only these, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seg_transfer import __version__
from seg_transfer.reports.content import ReportContent
from seg_transfer.reports.data_table import EMPTY, Column, Table, cell_text, is_missing
from seg_transfer.reports.drawing import Picture, file_stem
from seg_transfer.reports.explanation_figures import largest_overlaps

PAGE_FOLDER = Path(__file__).parent / "page"
_IMAGE_BUDGET = 1_900_000
"""Maximum bytes of embedded figures; other figures are only listed as files, to keep the page below 3 MB."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table on the page.

    Attributes:
        text: The text that is shown.
        number: The number that rows are sorted by; "" sorts last, None means text.
    """

    text: str
    number: str | None


def page(content: ReportContent, pictures: Sequence[Picture]) -> str:
    """Render the whole page as HTML.

    Args:
        content: The content of the report.
        pictures: Figures in order; those that fit the size limit are embedded.
    """
    style, script = (PAGE_FOLDER / "report.css").read_text("utf-8"), (PAGE_FOLDER / "report.js").read_text("utf-8")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            measured=content.measured,
            tables=content.tables,
            images=dict(_images(pictures)),
            figures_of={
                metric: [file_stem(kind, metric) for kind in ("scatter", "ranks")] for metric in content.metrics
            },
            left_out=[drawn.plot for drawn in _not_embedded(pictures)],
            explanations=list(_explanation_tables(content)),
            cells=cells,
            column_list=column_list,
            version=__version__,
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
        )
    )


def environment() -> Environment:
    """Return the environment of the templates; everything that they insert is escaped."""
    return Environment(
        loader=FileSystemLoader(PAGE_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def policy(style: str, script: str) -> str:
    """Return the content security policy of a page with this style and script."""
    parts = [
        "default-src 'none'",
        f"style-src '{_csp_hash(style)}'",
        f"script-src '{_csp_hash(script)}'",
        "img-src data:",
    ]
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def cells(table: Table) -> Iterator[list[Cell]]:
    """Yield the rows of a table as the page shows them."""
    columns = list(table.columns().values())
    for row in table.shown.itertuples(index=False):
        yield [_cell(value, column) for value, column in zip(row, columns, strict=True)]


def column_list(table: Table) -> list[Column]:
    """Return the columns of a table as the page shows them."""
    return list(table.columns().values())


def _cell(value: Any, column: Column) -> Cell:
    text = cell_text(value, column.form)
    if not column.form:
        return Cell(text, None)
    return Cell(text, "" if is_missing(value) or text == EMPTY else repr(float(value)))


def _csp_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _images(pictures: Sequence[Picture]) -> Iterator[tuple[str, dict[str, Any]]]:
    for drawn in _embedded(pictures):
        kind, data = _smaller_format(drawn)
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        yield drawn.plot.name, {"plot": drawn.plot, "uri": uri}


def _embedded(pictures: Sequence[Picture]) -> list[Picture]:
    embedded, budget = [], _IMAGE_BUDGET
    for drawn in pictures:
        size = len(_smaller_format(drawn)[1]) * 4 // 3
        if size <= budget:
            embedded.append(drawn)
            budget -= size
    return embedded


def _not_embedded(pictures: Sequence[Picture]) -> list[Picture]:
    embedded = {drawn.plot.name for drawn in _embedded(pictures)}
    return [drawn for drawn in pictures if drawn.plot.name not in embedded]


def _smaller_format(drawn: Picture) -> tuple[str, bytes]:
    is_smaller = drawn.png is not None and len(drawn.png) < len(drawn.svg)
    return ("png", drawn.png) if drawn.png is not None and is_smaller else ("svg+xml", drawn.svg)


def _explanation_tables(content: ReportContent) -> Iterator[Mapping[str, Any]]:
    """Yield the most overlapping classes of every explained pair, and the names of its figures."""
    for index, explanation in enumerate(content.explanations):
        table = None
        if explanation.overlaps is not None and not explanation.overlaps.empty:
            table = Table(
                f"overlaps_{index}",
                f"Classes of {explanation.target} that overlap most",
                largest_overlaps(explanation.overlaps),
            )
        names = [
            file_stem(kind, explanation.source, explanation.target) for kind in ("overlaps", "map", "map_fine_tuned")
        ]
        yield {"source": explanation.source, "target": explanation.target, "table": table, "plots": names}
