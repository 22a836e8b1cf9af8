"""The evaluation of a run folder and of published pairs: the frames of `seg_transfer.evaluation`, and their display."""

import io
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from seg_transfer.console import plain_console
from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import (
    evaluate,
    fine_tuning_noise,
    metric_columns,
    plain_rows,
    rankings,
    robustness,
    robustness_summary,
)
from seg_transfer.reports.content import build
from seg_transfer.reports.evaluation import evaluation_of_published, evaluation_of_run, json_rows, terminal_tables
from seg_transfer.reports.inputs import run_input
from seg_transfer.reports.tables import render
from seg_transfer.store.published import published_pairs
from seg_transfer.store.results import read_pairs
from seg_transfer.store.run_results import read_fine_tunings

REAL7 = Path(__file__).resolve().parents[2] / "data_manifests" / "published" / "real7"


@pytest.fixture(scope="module")
def of_run():
    return evaluation_of_run(REAL7)


def shown(evaluation):
    file = io.StringIO()
    render(terminal_tables(evaluation), plain_console(file, width=80))
    return file.getvalue()


def test_frames_are_those_of_the_evaluation(of_run):
    pairs, left_out = read_pairs(REAL7)
    metrics, fine_tunings = metric_columns(pairs), read_fine_tunings(REAL7)
    pd.testing.assert_frame_equal(of_run.measures, evaluate(pairs, metrics=metrics, fine_tunings=fine_tunings))
    pd.testing.assert_frame_equal(of_run.noise, fine_tuning_noise(fine_tunings))
    pd.testing.assert_frame_equal(of_run.robustness, robustness_summary(robustness(pairs, metrics=metrics)))
    for scenario, frame in of_run.rankings.items():
        pd.testing.assert_frame_equal(frame, rankings(pairs, scenario, metrics=of_run.metrics))
    assert list(of_run.left_out) == left_out


def test_json_has_every_measure_with_robustness_of_metrics_and_noise_of_the_ceiling(of_run):
    rows = json_rows(of_run)
    assert [row["metric"] for row in rows] == of_run.measures["metric"].tolist()
    for row, wanted in zip(rows, plain_rows(of_run.measures), strict=True):
        assert {name: row[name] for name in wanted} == wanted
        more = set(row) - set(wanted)
        if row["kind"] == "ceiling":
            assert more == {"n_seeds", "sd", "fraction_distinguishable"}
        elif row["scenario"] == "fixed_target":
            assert more == {"tau_w_without_largest", "tau_w_equal_size", "tau_w_min", "tau_w_max"}
        else:
            assert not more
    (ceiling,) = [row for row in rows if (row["scenario"], row["kind"]) == ("fixed_target", "ceiling")]
    assert (ceiling["metric"], ceiling["n_seeds"]) == ("one_fine_tuning", 3)
    assert [ceiling["top1"], ceiling["tau_w"], ceiling["sd"]] == pytest.approx([0.571, 0.614, 0.0115], abs=0.0005)
    gbc = rows[0]
    assert gbc["tau_w_min"] <= gbc["tau_w"] <= gbc["tau_w_max"]
    assert gbc["tau_w_share"] == gbc["tau_w"] / ceiling["tau_w"]


def test_a_study_shows_scratch_and_noise_and_published_pairs_do_not(of_run):
    assert "Fine-tuning noise" in shown(of_run)
    assert "no source" in shown(of_run)
    text = shown(evaluation_of_published())
    assert "Fine-tuning noise" not in text
    assert "no source" not in text


def test_published_accuracy_is_called_accuracy():
    evaluation = evaluation_of_published("architectures")
    pd.testing.assert_frame_equal(evaluation.pairs, published_pairs("architectures")[0])
    assert evaluation.performance == "accuracy"
    assert evaluation.noise.empty
    assert "mIoU" not in shown(evaluation)


def test_a_missing_pair_is_listed(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(REAL7, folder)
    (folder / "performance" / "camvid" / "fasseg.parquet").unlink()
    evaluation = evaluation_of_run(folder)
    assert "camvid -> fasseg" in evaluation.left_out
    assert not ((evaluation.pairs["source"] == "camvid") & (evaluation.pairs["target"] == "fasseg")).any()


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(REAL7, tmp_path / "run", ignore=shutil.ignore_patterns("figures", "tables", "ablations"))


def assert_the_ceiling_is_the_noise(folder):
    evaluation = evaluation_of_run(folder)
    noise = evaluation.noise.set_index("scenario")
    ceilings = [row for row in json_rows(evaluation) if row["kind"] == "ceiling"]
    assert [row["scenario"] for row in ceilings] == list(noise.index)
    for row in ceilings:
        assert {name: row[name] for name in noise} == pytest.approx(noise.loc[row["scenario"]].to_dict(), rel=1e-12)
    return noise


def test_only_evaluated_pairs_make_the_noise_and_the_ceiling(run):
    full = assert_the_ceiling_is_the_noise(run)
    for source in ("camvid", "idd_lite", "fasseg"):
        (run / "scores" / source / "dubai_aerial.parquet").unlink()
    noise = assert_the_ceiling_is_the_noise(run)
    pairs, _ = read_pairs(run)
    rivals = pairs[pairs["target"] == "dubai_aerial"]
    assert set(rivals["source"]) == {"labelmefacade", "nyuv2", "voc_animals", "scratch"}
    assert full.loc["fixed_target", "tau_w"] == pytest.approx(0.614, abs=5e-4)
    assert noise.loc["fixed_target", "tau_w"] == pytest.approx(0.701, abs=5e-4)
    pd.testing.assert_frame_equal(build(run_input(run)).tables["noise"].frame.set_index("scenario"), noise)


def test_a_pair_that_lacks_seeds_is_no_pair_of_the_noise(run):
    file = run / "performance" / "camvid" / "fasseg.parquet"
    pq.write_table(pq.read_table(file)[:1], file)
    noise = assert_the_ceiling_is_the_noise(run)
    assert noise["n_seeds"].tolist() == [3, 3]
    n_seeds = [row["n_seeds"] for row in json_rows(evaluation_of_run(run)) if row["kind"] == "ceiling"]
    assert list(map(repr, n_seeds)) == ["3", "3"]


def test_seeds_that_are_not_of_the_study_make_no_ceiling(run):
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["study"]["fine_tuning"]["seeds"] = [0]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    assert assert_the_ceiling_is_the_noise(run).empty
    evaluation = evaluation_of_run(run)
    assert evaluation.measures["tau_w_share"].isna().all()
    assert set(evaluation.fine_tunings["seed"]) == {0}


def test_an_unknown_name_names_the_known_ones():
    with pytest.raises(ResultsError, match="segmentation, architectures, architectures_frozen"):
        evaluation_of_published("moon")
