"""The results of a run folder, from files written by hand."""

import json
from pathlib import Path

import pytest
import yaml

from seg_transfer.errors import CheckpointError, ResultsError
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.run_results import read_fine_tunings, read_run
from seg_transfer.store.tables import PERFORMANCE, SCORES, write_rows

STUDY = {
    "study": {
        "metrics": ["leep", "gbc"],
        "targets": ["a", "b"],
        "sources": [{"name": "a", "dataset": "a"}, {"name": "b", "dataset": "b"}, {"name": "b_long", "dataset": "b"}],
        "fine_tuning": {"seeds": [0, 1]},
    },
    "manifests": {"a": {"classes": ["x", "y", "z"]}, "b": {"classes": ["x", "y"]}},
}
OTHERS = {
    "seconds": 1.0,
    "content_key": "k",
    "schema_version": 2,
    "seg_transfer_version": "0",
    "created_utc": "2024-01-01T00:00:00+00:00",
}


def origin(kind: str, source: str, target: str, study=STUDY) -> dict[str, str]:
    return {"settings_key": settings_key(kind, study, target), "source_key": f"weights of {source}"}


def put_scores(folder: Path, source: str, target: str, study=STUDY, **scores: float) -> None:
    head = {"source": source, "target": target, "note": "", **OTHERS}
    rows = [{**head, "metric": name, "score": score} for name, score in scores.items()]
    file = folder / "scores" / source / f"{target}.parquet"
    write_rows(file, SCORES, rows, origin("scores", source, target, study))


def put_performance(folder: Path, source: str, target: str, *mious: float) -> None:
    rows = [{"source": source, "target": target, "miou": m, "seed": k, **OTHERS} for k, m in enumerate(mious)]
    file = folder / "performance" / source / f"{target}.parquet"
    write_rows(file, PERFORMANCE, rows, origin("performance", source, target))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def test_scores_without_fine_tuning_are_read(folder):
    put_scores(folder, "b", "a", gbc=-1.0, leep=-2.0, h_score=7.0)
    found = read_run(folder)
    # In the study's order of metrics; a metric that it no longer has is left aside.
    assert found.scores["metric"].tolist() == ["leep", "gbc"]
    assert found.scores["score"].tolist() == [-2.0, -1.0]
    assert (found.unscored, found.untuned) == (["b_long -> a", "a -> b"], ["b -> a", "b_long -> a", "a -> b"])
    assert found.pairs.empty
    assert found.performance.empty
    assert list(found.miou) == ["source", "target", "miou"]


def test_scores_of_other_settings_are_ignored(folder):
    other = {**STUDY, "study": {**STUDY["study"], "normalisation": "target"}}
    put_scores(folder, "b", "a", other, gbc=-1.0, leep=-2.0)
    assert read_run(folder).scores.empty


def test_performance_is_the_mean_over_the_seeds_of_the_study(folder):
    put_scores(folder, "b", "a", gbc=-1.0, leep=-2.0)
    put_performance(folder, "b", "a", 0.25, 0.5, 0.9)
    put_performance(folder, "b_long", "a", 0.25)
    put_performance(folder, "scratch", "a", 0.1, 0.2)
    found = read_run(folder)
    assert found.miou["source"].tolist() == ["b", "scratch"]
    assert found.miou["miou"].tolist() == [0.375, pytest.approx(0.15, rel=1e-15)]
    of_study = [("b", 0), ("b", 1), ("b_long", 0), ("scratch", 0), ("scratch", 1)]
    for fine_tunings in (found.performance, read_fine_tunings(folder)):
        assert list(zip(fine_tunings["source"], fine_tunings["seed"], strict=True)) == of_study
    assert found.untuned == ["a -> b"]
    assert found.pairs["source"].tolist() == ["b", "scratch"]


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"study\.yaml: no such file; name the run folder"):
        read_run(tmp_path)


def test_a_damaged_file_is_refused(folder):
    put_scores(folder, "b", "a", gbc=-1.0)
    file = folder / "scores" / "b" / "a.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ResultsError, match="damaged result file"):
        read_run(folder)


def test_a_damaged_card_is_refused(folder):
    card = folder / "sources" / "b" / "source.json"
    card.parent.mkdir(parents=True)
    card.write_text(json.dumps({"source": "b"}))
    with pytest.raises(CheckpointError, match="not a readable source card"):
        read_run(folder)
