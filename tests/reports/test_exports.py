"""Exported tables are read back exactly."""

import csv
import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from all_columns import on_all_columns
from report_inputs import ATTACK

from seg_transfer.evaluation import evaluate
from seg_transfer.reports.data_table import Table
from seg_transfer.reports.exports import csv_text, markdown_text, write_tables
from seg_transfer.store.published import published_pairs

evaluate = on_all_columns(evaluate)


def test_parquet_and_csv_hold_the_numbers_of_evaluate_exactly(published_report):
    expected = evaluate(published_pairs()[0])
    for frame in (
        pd.read_parquet(published_report / "evaluation.parquet"),
        pq.read_table(published_report / "evaluation.parquet", page_checksum_verification=True).to_pandas(),
        pd.read_csv(published_report / "evaluation.csv"),
    ):
        assert list(frame) == list(expected)
        for name in expected:
            if name == "beaten_by":
                continue
            np.testing.assert_array_equal(frame[name].to_numpy(), expected[name].to_numpy())


def test_every_csv_holds_what_its_parquet_holds(published_report):
    files = sorted(published_report.glob("*.csv"))
    assert len(files) >= 8
    for file in files:
        frame, exact = pd.read_csv(file), pd.read_parquet(file.with_suffix(".parquet"))
        assert frame.shape == exact.shape
        for name in exact.select_dtypes("number"):
            np.testing.assert_array_equal(frame[name].astype(float), exact[name].astype(float))


@pytest.mark.parametrize("name", ["=1+1", "+1", "-a", "@sum(a)", "\t=1", "\r=1"])
def test_no_name_is_a_formula_in_a_spreadsheet(name):
    frame = pd.DataFrame({"source": [name], "score": [-2.5]})
    ((_, heading), (text, number)) = csv.reader(io.StringIO(csv_text(frame), newline=""))
    assert (heading, text, number) == ("score", f"'{name}", "-2.5")
    assert csv_text(pd.DataFrame({name: [1]})).lstrip('"').startswith("'")


def test_commas_quotes_and_lines_stay_in_their_cell():
    rows = list(csv.reader(io.StringIO(csv_text(pd.DataFrame({"a": ['x,"y"\nz'], "b": ["w"]})), newline="")))
    assert rows == [["a", "b"], ['x,"y"\nz', "w"]]


def test_markdown_keeps_every_cell_in_its_place():
    frame = pd.DataFrame(
        {"source": [ATTACK, "a|b", "line\nbreak", "[x](http://e.example)"], "miou": [0.5, 0.25, None, 1.0]}
    )
    lines = markdown_text(Table("t", "A | title", frame)).splitlines()
    assert lines[0] == r"# A \| title"
    assert lines[2:4] == ["| source | mIoU |", "|---|---:|"]
    assert lines[4] == r"| \</script\>\<img src=x onerror=alert(1)\> | 0.500 |"
    assert lines[5] == r"| a\|b | 0.250 |"
    assert lines[6] == "| line break | \N{EN DASH} |"
    assert lines[7] == r"| \[x\](http://e.example) | 1.000 |"
    assert all(line.replace(r"\|", "").count("|") == 3 for line in lines[2:8])


def test_content_keys_are_not_written_as_markdown(tmp_path):
    frame = pd.DataFrame({"content_key": ["f" * 64]})
    written = write_tables([Table("scores", "keys", frame), Table("other", "o", frame)], tmp_path)
    assert [file.name for file in written] == ["scores.parquet", "scores.csv", "other.parquet", "other.csv", "other.md"]
    assert all(file.is_file() for file in written)
