"""The report as one self-contained HTML page: style, script and figures are embedded, a policy forbids all else.

Every text passes through Jinja2's autoescape; figures are images with a data URI, in which no script runs. The style
and the script are files of this package, and the content security policy names their hashes.
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
from seg_transfer.reports.explanation_figures import strongest

_FOLDER = Path(__file__).parent / "page"
_IMAGE_BUDGET = 1_900_000
"""Bytes of embedded figures; further figures are only listed as files, so that the page stays below 3 MB."""


@dataclass(frozen=True)
class Cell:
    """A cell as the page shows it.

    Attributes:
        text: What is shown.
        number: The number by which rows are sorted; "" sorts last, None for text.
    """

    text: str
    number: str | None


def page(content: ReportContent, pictures: Sequence[Picture]) -> str:
    """Render the whole page as HTML.

    Args:
        content: The content of the report.
        pictures: Figures in order; as many as fit are embedded.
    """
    style, script = (_FOLDER / "report.css").read_text("utf-8"), (_FOLDER / "report.js").read_text("utf-8")
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        content=content,
        tables=content.tables,
        images=dict(_images(pictures)),
        figures_of={metric: [file_stem(kind, metric) for kind in ("scatter", "ranks")] for metric in content.metrics},
        left_out=[one.plot for one in _not_embedded(pictures)],
        explanations=list(_explanation_tables(content)),
        cells=cells,
        column_list=column_list,
        version=__version__,
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script."""
    parts = ["default-src 'none'", f"style-src '{_hash(style)}'", f"script-src '{_hash(script)}'", "img-src data:"]
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def cells(table: Table) -> Iterator[list[Cell]]:
    """The rows of a table as the page shows them."""
    columns = list(table.columns().values())
    for row in table.shown.itertuples(index=False):
        yield [_cell(value, column) for value, column in zip(row, columns, strict=True)]


def column_list(table: Table) -> list[Column]:
    """The columns of a table as the page shows them."""
    return list(table.columns().values())


def _cell(value: Any, column: Column) -> Cell:
    text = cell_text(value, column.form)
    if not column.form:
        return Cell(text, None)
    return Cell(text, "" if is_missing(value) or text == EMPTY else repr(float(value)))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _images(pictures: Sequence[Picture]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in _embedded(pictures):
        kind, data = _smaller(one)
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        yield one.plot.name, {"plot": one.plot, "uri": uri}


def _embedded(pictures: Sequence[Picture]) -> list[Picture]:
    found, budget = [], _IMAGE_BUDGET
    for one in pictures:
        size = len(_smaller(one)[1]) * 4 // 3
        if size <= budget:
            found.append(one)
            budget -= size
    return found


def _not_embedded(pictures: Sequence[Picture]) -> list[Picture]:
    embedded = {one.plot.name for one in _embedded(pictures)}
    return [one for one in pictures if one.plot.name not in embedded]


def _smaller(one: Picture) -> tuple[str, bytes]:
    return ("svg+xml", one.svg) if len(one.svg) <= len(one.png) else ("png", one.png)


def _explanation_tables(content: ReportContent) -> Iterator[Mapping[str, Any]]:
    """For every explained pair its most overlapping classes and the names of its figures."""
    for index, one in enumerate(content.explanations):
        table = None
        if one.overlaps is not None and not one.overlaps.empty:
            table = Table(f"overlaps_{index}", f"Classes of {one.target} that overlap most", strongest(one.overlaps))
        names = [file_stem(kind, one.source, one.target) for kind in ("overlaps", "map", "map_fine_tuned")]
        yield {"source": one.source, "target": one.target, "table": table, "plots": names}
