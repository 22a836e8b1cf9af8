"""Shows a ranking of sources as tables for a terminal."""

from __future__ import annotations

from rich.cells import cell_len
from rich.table import Table

from seg_transfer.evaluation import Ranking, TextTable, ranking_text_tables
from seg_transfer.reports.tables import plain_table


def source_ranking_tables(ranking: Ranking, width: int = 80) -> list[Table]:
    """Make tables of the ranking and, if computed, its stability; `ranking_sentences` returns the text below them.

    Args:
        ranking: The ranked sources of a target.
        width: Columns of the terminal. License, GFLOPs, parameters and the linear head's mIoU are left out, in this
            order, until a table fits.
    """
    return [fitted_table(table, width) for table in ranking_text_tables(ranking)]


def fitted_table(table: TextTable, width: int = 80) -> Table:
    """Make a table for a terminal of so many columns, without what is optional in it where that does not fit."""
    fitting = _fitted(table, width)
    return plain_table(fitting.title, fitting.columns, fitting.rows, fitting.names, width)


def _fitted(table: TextTable, width: int) -> TextTable:
    """Leave out optional columns of a table, the least important first, until it fits."""
    for heading in table.optional:
        if _width(table) <= width:
            break
        table = _without(table, heading)
    return table


def _width(table: TextTable) -> int:
    """Return the width of a table whose headings break at spaces; a blank and a border follow every column."""
    columns = zip(table.columns, *table.rows, strict=True)
    widths = [max(map(cell_len, [*heading.split(), *cells])) for heading, *cells in columns]
    return sum(widths) + 2 * len(widths) + 1


def _without(table: TextTable, heading: str) -> TextTable:
    at = table.columns.index(heading)
    columns, *rows = ([*cells[:at], *cells[at + 1 :]] for cells in (table.columns, *table.rows))
    return TextTable(table.title, columns, rows, table.names)
