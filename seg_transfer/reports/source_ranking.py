"""Shows a ranking of sources as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from seg_transfer.evaluation import Ranking, ranking_text_tables
from seg_transfer.reports.tables import plain_table


def source_ranking_tables(ranking: Ranking) -> list[Table]:
    """Make tables of the ranking and, if computed, its stability; `ranking_sentences` returns the text below them."""
    return [plain_table(table.title, table.columns, table.rows, table.names) for table in ranking_text_tables(ranking)]
