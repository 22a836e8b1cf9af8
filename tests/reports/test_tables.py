"""Tables of metrics and evaluations that fit 80 columns, and their plain data."""

import json
from dataclasses import replace

import numpy as np
import pytest
from all_columns import on_all_columns
from printed import cells, small_pairs, text_of

from seg_transfer.evaluation import evaluate, ranking_of
from seg_transfer.metrics import METRICS, Metric
from seg_transfer.metrics._rank_mean import METRIC as RANK_MEAN
from seg_transfer.reports.evaluation_tables import evaluation_tables
from seg_transfer.reports.source_ranking import source_ranking_tables
from seg_transfer.reports.tables import (
    metric_rows,
    metric_tables,
    plain_table,
    ranking_tables,
)
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)
ranking_tables = on_all_columns(ranking_tables)


@pytest.fixture(scope="module")
def published():
    return load_published()


def test_ranking_shows_best_chosen_and_scratch():
    text = text_of(ranking_tables(small_pairs(), scenarios=["fixed_target"]))
    lines = [line.split() for line in text.splitlines() if line.split()]
    start = next(number for number, line in enumerate(lines) if line[0] == "t")
    assert lines[start : start + 7] == [
        ["t", "a", "0.500", "1.000", "best,", "flat"],
        ["scratch", "0.450", "0.900", "no", "source"],
        ["b", "0.400", "0.800", "sharp,", "flat"],
        ["c", "0.250", "0.500", "flat"],
        ["u", "scratch", "0.700", "1.167", "no", "source"],
        ["b", "0.600", "1.000", "best,", "flat"],
        ["a", "0.300", "0.500", "sharp"],
    ]
    assert "No source beats scratch, so a ranking means little: u." in " ".join(text.split())
    assert "scratch" not in text_of(ranking_tables(small_pairs(), scenarios=["fixed_source"]))


def test_published_rankings_fit_80_columns(published):
    tables = ranking_tables(published)
    text = text_of(tables)
    assert len(tables) == 2
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert cells(text, "isprs") == ["isprs", "isaid", "0.494", "1.000", "best,", "gbc,", "rank_mean"]


def test_performance_other_than_miou_is_named():
    text = text_of(ranking_tables(small_pairs(), performance="accuracy"))
    assert text.count("accuracy") == 2
    assert "mIoU" not in text
    assert text_of(ranking_tables(small_pairs())).count("mIoU") == 2


def test_names_are_never_markup():
    pairs = small_pairs().replace({"source": {"a": "[red]a[/red]"}}).rename(columns={"sharp": "[bold]"})
    text = text_of([*evaluation_tables(evaluate(pairs)), *ranking_tables(pairs)])
    assert "[red]a[/red]" in text
    assert "[bold]" in text


@pytest.mark.parametrize(("length", "heading"), [(9, "mean rank"), (10, "rank"), (14, "rank")])
def test_headings_break_before_names_do_in_80_columns(length, heading):
    columns = ["rank", "source", "mean rank", "gbc", "nleep", "P(best)", "tied", "s"]
    row = ["1", "x" * length, "1.5", "-18.20 ± 0.80", "-1.156 ± 0.078", "0.32", "yes", "1.8"]
    text = text_of([plain_table("Sources", columns, [row], "source")])
    assert cells(text, "1")[:3] == row[:3]
    assert " ".join(cells(text, "rank")[2:]).startswith(f"{heading} gbc")


def test_a_name_that_is_too_long_for_80_columns_breaks():
    text = text_of([plain_table("Sources", ["rank", "source"], [["1", "x" * 100]], "source")])
    assert max(map(len, text.splitlines())) == 80
    assert text.count("x") == 100


def ranking_with_costs(license_of_net):
    row = {"standard_error": None, "replicates": None, "seconds": 1.0, "n_images": 40, "n_observations": 4000}
    rows = {name: {"gbc": {**row, "score": -3.0}} for name in ("net", "other_net")}
    facts = {"net": {"parameters": 4_652_008, "gflops": 4.1, "license": license_of_net}}
    return ranking_of("city", "gbc", rows, {}, facts=facts)


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (75, []),
        (74, ["license"]),
        (63, ["license"]),
        (62, ["license", "GFLOPs"]),
        (54, ["license", "GFLOPs", "parameters"]),
    ],
)
def test_a_narrow_terminal_loses_the_least_important_columns(width, left_out):
    text = text_of(source_ranking_tables(ranking_with_costs("Apache-2.0"), width), width)
    headings = cells(text, "rank")
    assert headings[:6] == ["rank", "source", "gbc", "P(best)", "tied", "s"]
    assert headings[6:] == [name for name in ("parameters", "GFLOPs", "license") if name not in left_out]
    assert cells(text, "1")[:3] == ["1", "net", "-3"]
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (88, ["linear mIoU", "parameters", "GFLOPs", "license"]),
        (87, ["mIoU", "parameters", "GFLOPs", "license"]),
        (82, ["linear mIoU", "parameters", "GFLOPs"]),
        (62, ["linear mIoU"]),
        (56, ["linear mIoU"]),
        (55, ["mIoU"]),
        (51, ["mIoU"]),
        (50, []),
    ],
)
def test_the_miou_of_a_linear_head_is_the_last_to_go(width, columns):
    ranking = ranking_with_costs("Apache-2.0")
    ranking = replace(ranking, table=ranking.table.assign(probe_miou=[0.414, np.nan]))
    text = text_of(source_ranking_tables(ranking, width), width)
    assert " ".join(cells(text, "rank")[6:]) == " ".join(columns)
    assert cells(text, "1")[6:7] == ["0.41"] * bool(columns)
    assert max(map(len, text.splitlines())) <= width


def test_a_long_license_costs_no_other_column():
    text = text_of(source_ranking_tables(ranking_with_costs("x" * 100)))
    assert cells(text, "rank")[-2:] == ["parameters", "GFLOPs"]


# metrics


@pytest.fixture
def three_metrics():
    custom = Metric(
        "custom",
        frozenset({"source_images", "image_embeddings", "source_probs", "image_index"}),
        "[0, 1]",
        "N D",
        "Somebody et al., On [markup], 2020",
        lambda statistics: [0.0],
        {"seed": 3},
        version=1,
        extra="ot",
    )
    return {"gbc": METRICS["gbc"], "custom": custom, "rank_mean": RANK_MEAN}


def test_metrics_are_listed_as_text(three_metrics):
    text = text_of(metric_tables(three_metrics), width=200)
    columns = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    assert ["gbc", "features", "yes", "[-C (C - 1), 0]", "N D^2"] in columns
    assert ["custom", "probabilities,", "ask", "[0, 1]", "N D"] in columns
    start = columns.index(["custom", "probabilities,", "ask", "[0, 1]", "N D"])
    assert columns[start + 1 : start + 5] == [["images,"], ["image embeddings,"], ["source images,"], ["extra ot"]]
    assert ["rank_mean", "scores", "no", "[-n, -1] among n pairs", "none"] in columns
    assert ["custom", "Somebody et al., On [markup], 2020; package tests"] in columns
    assert "N observations with D features" in text


def test_all_metrics_fit_80_columns():
    text = text_of(metric_tables(METRICS | {"rank_mean": RANK_MEAN}))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for name in METRICS:
        assert [line.split()[:1] for line in text.splitlines()].count([name]) == 2


def test_metrics_as_plain_data(three_metrics):
    rows = json.loads(json.dumps(metric_rows(three_metrics)))
    assert [row["name"] for row in rows] == ["gbc", "custom", "rank_mean"]
    assert [row["standard_error"] for row in rows] == ["yes", "on request", "no"]
    assert rows[1] == {
        "name": "custom",
        "needs": ["image_embeddings", "image_index", "source_images", "source_probs"],
        "standard_error": "on request",
        "range": "[0, 1]",
        "cost": "N D",
        "reference": "Somebody et al., On [markup], 2020",
        "settings": {"seed": 3},
        "extra": "ot",
        "version": 1,
        "package": "tests",
    }
