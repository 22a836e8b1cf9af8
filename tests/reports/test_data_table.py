"""Cells and columns: formatting of values, and descriptions of all columns."""

import pandas as pd
import pytest

from seg_transfer.reports.data_table import COLUMNS, Table, cell_text, column_of


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.5, ".3f", "0.500"),
        (-0.5, ".3f", "\N{MINUS SIGN}0.500"),
        (17.0, "d", "17"),
        (0.02, "+.3f", "+0.020"),
        (-18.2, "#.4g", "\N{MINUS SIGN}18.20"),
        (1277.3, "#.4g", "1277"),
        (None, ".3f", "\N{EN DASH}"),
        (pd.NA, "d", "\N{EN DASH}"),
        (float("nan"), "", "\N{EN DASH}"),
        ("", "", "\N{EN DASH}"),
        ("-x", "", "-x"),
        (["a", "b"], "", "a, b"),
    ],
)
def test_cells_are_formatted_for_readers(value, form, text):
    assert cell_text(value, form) == text


def test_an_unlisted_column_is_a_metric_or_text():
    assert column_of("gbc", pd.Series([1.0])).form == "#.4g"
    assert column_of("anything", pd.Series(["x"])).form == ""
    assert column_of("tau_w", pd.Series([1.0])) is COLUMNS["tau_w"]


def test_the_page_shows_a_part_where_a_table_has_one():
    whole = pd.DataFrame({"metric": ["gbc", "leep"], "score": [1.0, 2.0]})
    assert Table("t", "title", whole).shown is whole
    part = Table("t", "title", whole, page=whole[["score"]], page_title="scores")
    assert (list(part.columns()), part.caption) == (["score"], "scores")


@pytest.mark.parametrize("report", ["hostile_report", "published_report"])
def test_every_column_of_every_table_is_explained(report, request):
    folder = request.getfixturevalue(report)
    metrics = set(pd.read_parquet(folder / "fixed_target.parquet")["metric"])
    for file in sorted(folder.glob("*.parquet")):
        assert set(pd.read_parquet(file)) <= {*COLUMNS, *metrics}, file
