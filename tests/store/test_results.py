"""The frame of pairs from the files of a run folder, written by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from seg_transfer.errors import ResultsError
from seg_transfer.metrics import METRICS
from seg_transfer.store import results
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.key_parts import parts_entry
from seg_transfer.store.results import read_pairs, read_performance
from seg_transfer.store.run_results import read_run
from seg_transfer.store.tables import PERFORMANCE, SCORES, read_rows, write_rows

STUDY = {
    "study": {
        "metrics": ["gbc", "leep"],
        "targets": ["a", "b"],
        "sources": [
            {"name": "a", "dataset": "a"},
            {"name": "b", "dataset": "b"},
            {"name": "b_long", "dataset": "b"},
            {"name": "web", "dataset": "web"},
        ],
    },
    "manifests": {"a": {"classes": ["x", "y", "z"]}, "b": {"classes": ["x", "y"]}},
}
OTHERS = {
    "seconds": 1.0,
    "content_key": "k",
    "schema_version": 1,
    "seg_transfer_version": "0",
    "created_utc": "2024-01-01T00:00:00+00:00",
}


def origin(kind: str, source: str, target: str) -> dict[str, str]:
    return {"settings_key": settings_key(kind, STUDY, target), "source_key": f"weights of {source}"}


def put_scores(folder: Path, source: str, target: str, **scores: float) -> None:
    rows = [{"source": source, "target": target, "metric": name, "score": s, **OTHERS} for name, s in scores.items()]
    write_rows(folder / "scores" / source / f"{target}.parquet", SCORES, rows, origin("scores", source, target))


def put_performance(folder: Path, source: str, target: str, *mious: float) -> None:
    rows = [{"source": source, "target": target, "miou": m, "seed": k, **OTHERS} for k, m in enumerate(mious)]
    file = folder / "performance" / source / f"{target}.parquet"
    write_rows(file, PERFORMANCE, rows, origin("performance", source, target))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pairs: three complete (b -> a over two seeds), one without performance, one that lacks a metric."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    put_scores(tmp_path, "a", "b", leep=-0.5, gbc=-30.0)
    put_performance(tmp_path, "a", "b", 0.25)
    put_scores(tmp_path, "b", "a", gbc=-10.0, leep=-1.5, h_score=7.0)
    put_performance(tmp_path, "b", "a", 0.5, 0.6)
    put_scores(tmp_path, "b_long", "a", gbc=-20.0, leep=-1.0)
    put_scores(tmp_path, "web", "a", gbc=-5.0)
    put_performance(tmp_path, "web", "a", 0.7)
    put_scores(tmp_path, "web", "b", gbc=-4.0, leep=-0.25)
    put_performance(tmp_path, "web", "b", 0.75)
    put_performance(tmp_path, "scratch", "b", 0.1, 0.2, 0.6)
    return tmp_path


def test_the_frame_has_complete_pairs_and_controls(folder):
    frame, incomplete = read_pairs(folder)
    expected = pd.DataFrame(
        [
            ("a", "b", 0.25, 2.0, -30.0, -0.5),
            ("b", "a", 0.55, 3.0, -10.0, -1.5),
            ("web", "b", 0.75, 2.0, -4.0, -0.25),
            ("scratch", "b", 0.3, np.nan, np.nan, np.nan),
        ],
        columns=["source", "target", "miou", "n_target_classes", "gbc", "leep"],
    )
    pd.testing.assert_frame_equal(frame, expected, rtol=1e-15)
    assert incomplete == ["b_long -> a", "web -> a"]


def test_performance_is_read_of_every_scored_pair_even_where_metrics_are_missing(folder):
    put_scores(folder, "web", "b", gbc=-4.0, leep=-0.25)
    rows = [{"source": "a", "target": "b", "miou": 0.9, "seed": 0, **OTHERS}]
    other_weights = origin("performance", "another source", "b")
    write_rows(folder / "performance" / "a" / "b.parquet", PERFORMANCE, rows, other_weights)
    frame = read_performance(folder)
    assert frame.to_numpy().tolist() == [["b", "a", 0.55, 3], ["web", "a", 0.7, 3], ["web", "b", 0.75, 2]]
    assert list(frame) == ["source", "target", "miou", "n_target_classes"]


def test_no_performance_is_said_in_one_line(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    with pytest.raises(ResultsError, match="no pair has scores and a fine-tuned mIoU; run score-pairs and finetune"):
        read_performance(tmp_path)


@pytest.fixture
def needy(monkeypatch: pytest.MonkeyPatch) -> None:
    """leep as a metric that needs the source's own images."""
    metrics = METRICS | {"leep": replace(METRICS["leep"], needs=frozenset({"source_images"}))}
    monkeypatch.setattr(results, "METRICS", metrics)


def put_own(folder: Path, source: str, target: str, dataset: str, **scores: float) -> None:
    rows = [{"source": source, "target": target, "metric": name, "score": s, **OTHERS} for name, s in scores.items()]
    own = results.source_images_origin(STUDY, dataset)
    write_rows(folder / "scores" / source / f"{target}.parquet", SCORES, rows, origin("scores", source, target) | own)


def test_a_metric_that_a_source_was_skipped_for_is_left_out_and_named(folder, needy):
    put_own(folder, "a", "b", "a", gbc=-30.0, leep=-0.5)
    put_own(folder, "b", "a", "b", gbc=-10.0, leep=-1.5)
    for target in "ab":
        put_own(folder, "web", target, "web", gbc=-5.0)
    frame, left_out = read_pairs(folder)
    assert list(frame) == ["source", "target", "miou", "n_target_classes", "gbc"]
    assert frame["source"].tolist() == ["a", "b", "web", "web", "scratch"]
    assert left_out == ["leep (no score of web)", "b_long -> a"]


def test_scores_with_other_settings_of_source_images_are_never_returned(folder, needy):
    for name in ("a", "b"):
        put_own(folder, name, "ab".replace(name, ""), name, gbc=-30.0, leep=-0.5)
    for target in "ab":
        (folder / "performance" / "web" / f"{target}.parquet").unlink()
    assert "leep" in read_pairs(folder)[0]
    manifests = {**STUDY["manifests"], "a": {**STUDY["manifests"]["a"], "low_shot": {"limit": 5}}}
    tuned = {**STUDY, "manifests": manifests}
    changed(folder, manifests=manifests)
    # The low-shot images of a, on which b was scored and a trained: of a -> b only what looked at them is stale.
    rows = [{"source": "a", "target": "b", "miou": 0.25, "seed": 0, **OTHERS}]
    same = {"settings_key": settings_key("performance", tuned, "b"), "source_key": "weights of a"}
    write_rows(folder / "performance" / "a" / "b.parquet", PERFORMANCE, rows, same)
    frame, left_out = read_pairs(folder)
    assert frame["source"].tolist() == ["a", "scratch"]
    assert list(frame) == ["source", "target", "miou", "n_target_classes", "gbc"]
    assert left_out[0] == "leep (no score of a)"


def test_without_any_metric_there_are_no_pairs(folder, needy):
    study = {**STUDY["study"], "metrics": ["leep"]}
    with pytest.raises(ResultsError, match="no pair has all scores"):
        read_pairs(changed(folder, study=study))


def test_a_source_forms_no_pair_with_its_own_dataset(folder):
    put_scores(folder, "b_long", "b", gbc=-1.0, leep=-1.0)
    put_performance(folder, "b_long", "b", 0.9)
    frame, _ = read_pairs(folder)
    assert not ((frame["source"] == "b_long") & (frame["target"] == "b")).any()


def test_without_scratch_there_are_no_rows_of_it(folder):
    (folder / "performance" / "scratch" / "b.parquet").unlink()
    assert set(read_pairs(folder)[0]["source"]) == {"a", "b", "web"}


def with_seeds(folder: Path, *seeds: int) -> Path:
    study = {**STUDY["study"], "fine_tuning": {"seeds": list(seeds)} if seeds else None}
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "study": study}))
    return folder


def test_only_the_seeds_of_the_study_count(folder):
    """b -> a has seeds 0 and 1, the control of b has 0, 1 and 2, every other pair has seed 0 alone."""
    frame, incomplete = read_pairs(with_seeds(folder, 0))
    assert frame["miou"].tolist() == [0.25, 0.5, 0.75, 0.1]
    assert incomplete == ["b_long -> a", "web -> a"]
    frame, incomplete = read_pairs(with_seeds(folder, 1, 0))
    assert frame["source"].tolist() == ["b", "scratch"]
    np.testing.assert_allclose(frame["miou"], [0.55, 0.15], rtol=1e-15)
    assert incomplete == ["a -> b", "b_long -> a", "web -> a", "web -> b"]


def test_without_fine_tuning_in_the_study_every_seed_counts(folder):
    assert read_pairs(with_seeds(folder))[0].equals(read_pairs(folder)[0])


def message(folder: Path) -> str:
    with pytest.raises(ResultsError) as caught:
        read_pairs(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_complete_pair_is_an_error(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    put_performance(tmp_path, "scratch", "b", 0.5)
    assert message(tmp_path) == (
        f"{tmp_path}: no pair has all scores and an actual performance; run score-pairs and finetune-pairs"
    )


def test_no_run_folder(tmp_path):
    assert message(tmp_path / "none").startswith(f"{tmp_path / 'none' / 'study.yaml'}: no such file")


@pytest.mark.parametrize("text", [b"{", b"- 1", b"", b"study: {}", b"\xff\xfe\x00study"])
def test_other_files_are_no_resolved_study(folder, text):
    (folder / "study.yaml").write_bytes(text)
    assert "study.yaml: not the resolved study of a run" in message(folder)


@pytest.mark.parametrize("kind", ["scores", "performance"])
def test_a_damaged_file_is_named(folder, kind):
    file = folder / kind / "b" / "a.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    assert message(folder).startswith(f"{file}: damaged result file")


def changed(folder: Path, **parts: object) -> Path:
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, **parts}))
    return folder


@pytest.mark.parametrize(
    "parts",
    [
        {"study": {**STUDY["study"], "sampling": {"seed": 1}}},
        {"study": {**STUDY["study"], "normalisation": "target"}},
        {"study": {**STUDY["study"], "keep_features": True}},
        {"fine_tuning_schedule": {"steps": 3}},
        {"manifests": {name: {**fields, "crop_size": [8, 8]} for name, fields in STUDY["manifests"].items()}},
    ],
    ids=["sampling", "normalisation", "keep_features", "schedule", "manifest"],
)
def test_results_of_other_settings_are_never_returned(folder, parts):
    with pytest.raises(ResultsError, match="no pair has all scores"):
        read_pairs(changed(folder, **parts))


def test_a_setting_of_one_target_does_not_affect_others(folder):
    manifests = {**STUDY["manifests"], "b": {**STUDY["manifests"]["b"], "low_shot": {"limit": 5}}}
    frame, incomplete = read_pairs(changed(folder, manifests=manifests))
    assert list(zip(frame["source"], frame["target"], strict=True)) == [("b", "a")]
    assert "a -> b" in incomplete


def test_settings_without_influence_change_nothing(folder):
    before, _ = read_pairs(folder)
    titled = {name: {**fields, "title": "new", "licence": "new"} for name, fields in STUDY["manifests"].items()}
    assert read_pairs(changed(folder, manifests=titled))[0].equals(before)


def test_scores_and_performance_of_different_weights_form_no_pair(folder):
    file = folder / "performance" / "a" / "b.parquet"
    rows = read_rows(file, PERFORMANCE)
    write_rows(file, PERFORMANCE, rows, {**origin("performance", "a", "b"), "source_key": "other weights"})
    frame, incomplete = read_pairs(folder)
    assert "a" not in set(frame["source"])
    assert "a -> b" in incomplete


def test_a_score_of_another_version_of_its_metric_is_left_out(folder, monkeypatch):
    """Half of the pairs by code before a fix, and half by code after it, make no ranking."""
    rows = read_rows(folder / "scores/a/b.parquet", SCORES)
    noted = parts_entry({"gbc": {"version": "1"}, "leep": {"version": "1"}})
    write_rows(folder / "scores/a/b.parquet", SCORES, rows, origin("scores", "a", "b") | noted)
    before = read_pairs(folder)
    changed = {**METRICS, "gbc": replace(METRICS["gbc"], version=2)}
    monkeypatch.setattr(results, "METRICS", changed)
    after = read_pairs(folder)
    assert before[1] == ["b_long -> a", "web -> a"]
    assert after[1] == ["a -> b", "b_long -> a", "web -> a"]
    # Scores of earlier versions do not note the version: they are what they are.
    assert after[0]["source"].tolist() == ["b", "web", "scratch"]
    assert read_run(folder).scores.groupby(["source", "target"])["metric"].apply(list)["a", "b"] == ["leep"]
