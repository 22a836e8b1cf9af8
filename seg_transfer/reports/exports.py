"""Writes tables as files: Parquet, CSV and Markdown.

Parquet holds the exact values. In CSV, text that a spreadsheet could interpret as a formula (it begins with = + - @, a
tab or a carriage return) is prefixed with an apostrophe, which spreadsheets read as text; numbers are exact. In
Markdown, special characters are escaped.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from seg_transfer.reports.data_table import Table, cell_text, is_missing
from seg_transfer.store.atomic import write_text
from seg_transfer.store.tables import write_table

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"([\\`*|\[\]<>&~$#])")
# Tables of hashes, which nobody would read as Markdown.
_NO_MARKDOWN = {"scores"}


def write_tables(tables: Iterable[Table], folder: Path) -> list[Path]:
    """Write every table as Parquet, CSV and Markdown; returns the files."""
    written = []
    for table in tables:
        stem = folder / table.name
        _write_parquet(table, stem.with_suffix(".parquet"))
        write_text(stem.with_suffix(".csv"), csv_text(table.frame))
        written += [stem.with_suffix(".parquet"), stem.with_suffix(".csv")]
        if table.name not in _NO_MARKDOWN:
            write_text(stem.with_suffix(".md"), markdown_text(table))
            written.append(stem.with_suffix(".md"))
    return written


def csv_text(frame: pd.DataFrame) -> str:
    """Format a frame as CSV; missing cells are empty.

    Example:
        >>> csv_text(pd.DataFrame({"source": ["=1+1", "a"], "score": [-0.1, None]}))
        "source,score\\r\\n'=1+1,-0.1\\r\\na,\\r\\n"
    """
    stream = io.StringIO()
    # Line ends as in RFC 4180: the writer then also quotes a carriage return inside a cell.
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([_csv_cell(str(name)) for name in frame])
    for row in frame.itertuples(index=False):
        writer.writerow([_csv_cell(value) for value in row])
    return stream.getvalue()


def markdown_text(table: Table) -> str:
    """Format a table as Markdown: title, rows formatted as on the page, and the meaning of the columns."""
    columns = table.columns_of(table.frame)
    lines = [f"# {_markdown_cell(table.heading)}", ""]
    lines.append(_markdown_row(column.heading for column in columns.values()))
    lines.append(_markdown_rule(bool(column.form) for column in columns.values()))
    for row in table.frame.itertuples(index=False):
        lines.append(
            _markdown_row(cell_text(value, column.form) for value, column in zip(row, columns.values(), strict=True))
        )
    meanings = [f"- {_markdown_cell(column.heading)}: {_markdown_cell(column.meaning)}" for column in columns.values()]
    return "\n".join([*lines, "", *meanings, ""])


def _write_parquet(table: Table, file: Path) -> None:
    about = {name: column.meaning for name, column in table.columns_of(table.frame).items()}
    arrow = pa.Table.from_pandas(table.frame, preserve_index=False)
    write_table(file, arrow, {"title": table.heading, "columns": json.dumps(about)})


def _csv_cell(value: Any) -> Any:
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return repr(float(value)) if isinstance(value, float) else value


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_markdown_cell, cells))} |"


def _markdown_rule(right: Iterable[bool]) -> str:
    return f"|{'|'.join('---:' if column else '---' for column in right)}|"


def _markdown_cell(text: str) -> str:
    r"""Escape text for a cell of a Markdown table.

    >>> print(_markdown_cell("a|b <img>"))
    a\|b \<img\>
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))
