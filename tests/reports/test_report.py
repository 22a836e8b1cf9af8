"""A report as a folder: its files, and equal bytes for equal input."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
from report_inputs import ATTACK, hostile_input, pairs_of, scores_of

from seg_transfer.errors import ResultsError
from seg_transfer.reports.content import build
from seg_transfer.reports.inputs import ReportInput
from seg_transfer.reports.page import page
from seg_transfer.reports.report import write_report


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_the_same_input_gives_the_same_bytes(hostile_report, tmp_path):
    written = write_report(hostile_input(), tmp_path)
    assert contents(tmp_path) == contents(hostile_report)
    assert sorted(str(file.relative_to(tmp_path)) for file in written) == sorted(contents(tmp_path))


def test_the_order_of_rows_changes_no_ranking():
    report_input = hostile_input()
    shuffled = ReportInput(**{**vars(report_input), "scores": report_input.scores.sample(frac=1, random_state=0)})
    first, second = (
        build(one).tables["fixed_target"].frame.sort_values(["target", "metric", "source"], ignore_index=True)
        for one in (report_input, shuffled)
    )
    pd.testing.assert_frame_equal(first, second)


def test_a_folder_has_the_page_and_all_forms_of_figures_and_tables(published_report):
    files = contents(published_report)
    figures = {name for name in files if name.startswith("figures/")}
    main = ("miou", "evaluation", "regret", "scatter_rank_mean", "ranks_rank_mean")
    assert {f"figures/{stem}.{kind}" for stem in main for kind in ("svg", "png")} | {
        "figures/scatter_gbc.svg"
    } < figures
    # All as SVG; as PNG, the three of the metric that recommends and the two of all metrics.
    assert len(figures) == (1 + 6 + 6 + 2) + (3 + 2)
    wanted = (
        "fixed_target",
        "fixed_source",
        "pairs",
        "evaluation",
        "gaps",
        "robustness",
        "comparison",
        "leave_one_dataset_out",
        "setup_stability",
    )
    assert {f"{name}.{kind}" for name in wanted for kind in ("parquet", "csv", "md")} < files.keys()


def test_file_names_are_sanitized(hostile_report):
    for name in contents(hostile_report):
        assert not set(name) & set("<>\"'`$| ")
        assert name.count("/") <= 1


def test_scores_alone_give_a_report(tmp_path):
    metrics = ["h_score", "gbc"]
    pairs = pairs_of(["a", "b", "c"], metrics)
    nothing = pd.DataFrame(columns=["source", "target", "miou"])
    report_input = ReportInput(
        title="only scored",
        origin=(),
        created="2026-01-02",
        scores=scores_of(pairs, metrics),
        miou=nothing,
        pairs=nothing,
        performance=nothing.assign(seed=[], seconds=[]),
        skipped=("Nothing is fine-tuned yet.",),
    )
    write_report(report_input, tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    answer = pd.read_parquet(tmp_path / "answer.parquet")
    best = pairs.loc[pairs.groupby("target")["gbc"].idxmax()]
    assert answer["chosen"].tolist() == best["source"].tolist()
    assert answer["chosen_miou"].isna().all()
    assert f"For a: fine-tune {best['source'].iloc[0]}." in text
    assert "Scoring pairs: 15.0 s for 6, 2.5 s each." in text
    assert not (tmp_path / "evaluation.csv").exists()
    assert {file.name for file in (tmp_path / "figures").glob("*.svg")} == {"ranks_gbc.svg", "ranks_h_score.svg"}


def test_optional_parts_show_where_their_data_is(hostile_report):
    text = (hostile_report / "report.html").read_text("utf-8")
    assert 'id="figure-stability"' in text
    assert 'id="table-stability"' in text
    assert 'id="table-overlaps_0"' in text
    assert text.count('id="figure-map') == 2


def test_noise_follows_the_evaluation_where_seeds_can_be_compared(hostile_report):
    assert 'id="table-noise"' not in (hostile_report / "report.html").read_text("utf-8")
    report_input = hostile_input()
    again = report_input.performance.assign(seed=1, miou=report_input.performance["miou"] + 0.02)
    seeds = ReportInput(**{**vars(report_input), "performance": pd.concat([report_input.performance, again])})
    content = build(seeds)
    noise = content.tables["noise"].frame.set_index("scenario")
    assert noise.loc["fixed_source", "sd"] == pytest.approx(0.02 / 2**0.5)
    assert noise["tau_w"].to_list() == pytest.approx([1, 1])
    assert 'id="table-noise"' in page(content, [])


def test_pairs_that_cannot_be_evaluated_are_refused(tmp_path):
    report_input = hostile_input()
    twice = pd.concat([report_input.pairs, report_input.pairs[:1]])
    with pytest.raises(ResultsError, match="twice"):
        write_report(ReportInput(**{**vars(report_input), "pairs": twice}), tmp_path)


def test_parquet_describes_its_columns(hostile_report):
    for file in sorted(hostile_report.glob("*.parquet")):
        metadata = pq.read_schema(file).metadata
        assert metadata[b"title"]
        assert all(
            f'"{name}"'.encode() in metadata[b"columns"] for name in pq.read_schema(file).names if name.isalnum()
        )
    assert ATTACK in pd.read_parquet(hostile_report / "pairs.parquet").columns
