"""rank says what a linear head on every source's features reaches; it decides nothing, and its failure does no harm."""

import json

import pandas as pd
import pyarrow.parquet as pq
from ranked_bank import in_python, without_seconds, words


def test_the_linear_head_of_every_source_is_said_and_reported(bank, invoke):
    (said,) = [line for line in invoke(*words(bank)).out.splitlines() if "linear head" in line]
    kept = json.loads((bank.run / "ranked/ranking.json").read_text())
    best, other = kept["ranking"]
    assert 0 < best["probe_miou"] < 1
    reached = f"a linear head reaches a mIoU of about {best['probe_miou']:.2f} on held-out images with the features of"
    assert said.startswith(f"Without fine-tuning, {reached} {best['source']}")
    assert said in kept["sentences"]
    assert kept["first_by"].keys() == {"gbc", "logme"}
    assert invoke("report", str(bank.run / "ranked")).code == 0
    frame = pd.read_parquet(bank.run / "ranked/report/fixed_target.parquet").query("metric == 'rank_mean'")
    assert dict(zip(frame["source"], frame["linear_miou"], strict=True)) == {
        row["source"]: row["probe_miou"] for row in (best, other)
    }
    page = (bank.run / "ranked/report/report.html").read_text()
    assert "linear mIoU" in page
    assert f"{best['probe_miou']:.3f}" in page


def test_a_linear_head_that_fails_changes_no_ranking(bank, invoke, monkeypatch):
    expected = without_seconds(in_python(bank).as_dict()["ranking"])
    monkeypatch.setattr("seg_transfer.metrics._probe_miou.miou", lambda *_: 1 / 0)
    ended = invoke(*words(bank, "--json"))
    assert ended.code == 0
    assert ended.err.count("probe_miou: ZeroDivisionError: division by zero") == 1
    ranking = in_python(bank, run_folder=bank.run / "ranked")
    assert ranking.failed is None
    unknown = {"probe_miou": None, "probe_miou_error": None}
    assert without_seconds(ranking.as_dict()["ranking"]) == [row | unknown for row in expected]
    assert json.loads(ended.out)["ranking"] == ranking.as_dict()["ranking"]
    assert "linear head" not in str(ranking)
    # And it is computed as soon as that is possible.
    monkeypatch.undo()
    assert without_seconds(in_python(bank, run_folder=bank.run / "ranked").as_dict()["ranking"]) == expected


def test_one_image_gives_no_linear_head_and_no_failure(bank, invoke):
    ended = invoke(*words(bank, "--n-images", "1"))
    assert (ended.code, ended.err) == (0, "")
    assert "linear head" not in ended.out
    rows = json.loads((bank.run / "ranked/ranking.json").read_text())["ranking"]
    assert [row["probe_miou"] for row in rows] == [None, None]
    before = bank.state("ranked/scores")
    assert invoke(*words(bank, "--n-images", "1")).code == 0
    assert bank.state("ranked/scores") == before


def test_a_run_folder_of_earlier_versions_loses_nothing(bank, invoke, monkeypatch):
    monkeypatch.setattr("seg_transfer.selection.source_scores.LINEAR_HEAD", "gbc")
    invoke(*words(bank, "--metric", "nleep"))
    monkeypatch.undo()
    files = sorted((bank.run / "ranked/scores").glob("*/*.parquet"))
    before = [{row["metric"]: row for row in pq.read_table(file).to_pylist()} for file in files]
    assert [set(rows) for rows in before] == [{"gbc", "nleep"}] * 2
    assert invoke(*words(bank)).code == 0
    for file, rows in zip(files, before, strict=True):
        after = {row["metric"]: row for row in pq.read_table(file).to_pylist()}
        assert set(after) == {"gbc", "nleep", "logme", "probe_miou"}
        assert {name: after[name] for name in rows} == rows
