"""A ranking of sources as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from seg_transfer.evaluation import Ranking, ranking_text_tables
from seg_transfer.reports.tables import plain_table


def source_ranking_tables(ranking: Ranking) -> list[Table]:
    """The ranking and, where it was computed, its stability; `ranking_sentences` gives the text below them."""
    return [plain_table(one.title, one.columns, one.rows, one.names) for one in ranking_text_tables(ranking)]
