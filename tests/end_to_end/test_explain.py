"""`explain`: the overlaps that make up a score, and maps before and after fine-tuning."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from explain_study import FOLDER, ONE, SOURCES, TARGET, checked, keep_weights

from seg_transfer.demo.domains import DOMAINS
from seg_transfer.stages import explain, explaining
from seg_transfer.store.explanations import SCHEMAS, overlaps_of, read_explanation

# What is there


def test_the_overlaps_make_up_the_stored_score(tuned):
    scores = {row["source"]: row for row in tuned.rows("scores") if row["metric"] == "gbc" and row["target"] == TARGET}
    for source in SOURCES:
        frames = read_explanation(tuned.run, source, TARGET)
        overlaps, classes = frames["overlaps"], frames["classes"]
        assert -2 * overlaps["overlap"].sum() == pytest.approx(scores[source]["score"], rel=1e-12)
        assert frames["overlaps"].attrs["gbc"] == overlaps_of(frames).gbc == pytest.approx(scores[source]["score"])
        assert (overlaps["class_a"] < overlaps["class_b"]).all()
        assert classes["name"].tolist() == list(DOMAINS[TARGET].classes)
        assert classes["n_pixels"].sum() == scores[source]["n_observations"]
        assert np.count_nonzero(classes["n_pixels"]) == scores[source]["n_classes"]
        sampled = set(classes.loc[classes["n_pixels"] > 0, "class_index"])
        assert set(overlaps["class_a"]) | set(overlaps["class_b"]) == sampled


def test_maps_show_the_same_pixels_of_every_source(tuned):
    first, second = (read_explanation(tuned.run, source, TARGET)["map"] for source in SOURCES)
    shown = ["label", "image_index"]
    assert first[shown].equals(second[shown])
    assert not first["x"].equals(second["x"])
    sample = pq.read_table(tuned.run / "samples" / f"{TARGET}.parquet").to_pandas()
    assert len(first) == len(sample)  # there are fewer than 2000
    assert first["label"].tolist() == sample["label"].tolist()
    assert first.attrs["method"] == "pca"
    assert first.attrs["n_observations"] == len(sample)
    assert 0 < first.attrs["explained"][1] <= first.attrs["explained"][0] < 1


def test_a_map_of_many_pixels_is_balanced(finished, copy_of, run_explain, monkeypatch):
    workspace = copy_of(finished)
    monkeypatch.setattr(explain, "MAP_PIXELS", 60)
    monkeypatch.setattr(explaining, "MAP_PIXELS", 60)
    run_explain(workspace, *ONE)
    frames = read_explanation(workspace.run, "day_street", TARGET)
    shown = frames["map"]["label"].value_counts()
    present = frames["classes"].set_index("class_index")["n_pixels"]
    assert shown.sum() == 60
    fewest_of_full = min(count for label, count in shown.items() if count < present[label])
    assert shown.max() - fewest_of_full <= 1


def test_columns_are_described(tuned):
    for name, schema in SCHEMAS.items():
        stored = pq.read_schema(tuned.run / FOLDER / f"{name}.parquet")
        assert json.loads(stored.metadata[b"columns"]).keys() == set(schema.names)
        assert all(field.metadata[b"description"] for field in schema)


def test_tables_name_the_classes_that_overlap_and_those_that_decide(tuned, run_explain):
    out = run_explain(tuned, "--target", TARGET)
    lines = out.splitlines()
    gbc = {source: overlaps_of(read_explanation(tuned.run, source, TARGET)).gbc for source in SOURCES}
    better, worse = sorted(SOURCES, key=gbc.__getitem__, reverse=True)
    for source in SOURCES:
        assert any(line.strip().startswith(f"{source} -> {TARGET}: GBC {gbc[source]:.4g}") for line in lines)
    difference = gbc[better] - gbc[worse]
    assert f"{TARGET}: GBC of {better} above that of {worse} by {difference:.4g}" in " ".join(out.split())
    overlaps = read_explanation(tuned.run, better, TARGET)["overlaps"].nlargest(5, "overlap")
    names = DOMAINS[TARGET].classes
    for _, row in overlaps.iterrows():
        pair = f"{names[int(row['class_a'])]} / {names[int(row['class_b'])]}"
        assert any(pair in line and f"{row['overlap']:.4f}" in line for line in lines)


def test_json_says_the_same(tuned, run_explain):
    reported = json.loads(run_explain(tuned, "--target", TARGET, "--json"))
    gbc = {pair["source"]: pair["gbc"] for pair in reported["pairs"]}
    assert list(gbc) == list(SOURCES)
    (difference,) = reported["differences"]
    assert difference["difference"] == pytest.approx(gbc[difference["first"]] - gbc[difference["second"]], rel=1e-12)
    assert difference["difference"] >= 0
    assert sum(one["part"] for one in difference["classes"]) == pytest.approx(difference["difference"], rel=1e-9)
    assert [one["name"] for one in difference["classes"]] == [
        DOMAINS[TARGET].classes[one["class_index"]] for one in difference["classes"]
    ]
    assert reported["pairs"][0]["map"]["method"] == "pca"
    assert reported["pairs"][0]["map_fine_tuned"]["seed"] == 0
    assert "map_fine_tuned" not in reported["pairs"][1]


# Fine-tuned weights


def test_kept_weights_are_a_source_and_decide_no_number(tuned, finished, run_explain, invoke, tmp_path):
    folder = tuned.run / "fine_tuned/day_street" / TARGET / "0"
    assert sorted(path.name for path in folder.iterdir()) == ["load.py", "source.json", "weights.safetensors"]
    card = json.loads((folder / "source.json").read_text())
    source = json.loads((tuned.run / "sources/day_street/source.json").read_text())
    assert (card["source"], card["dataset"], card["seed"]) == ("day_street", TARGET, 0)
    assert card["initialisation"] == source["sha256"]
    assert tuple(card["classes"]) == DOMAINS[TARGET].classes
    reported = ("source", "target", "seed", "miou", "class_iou", "content_key")
    rows, before = ([[row[name] for name in reported] for row in one.rows("performance")] for one in (tuned, finished))
    assert rows == before
    assert card["miou"] == next(row["miou"] for row in tuned.rows("performance") if row["target"] == TARGET)
    # As a source of another study.
    shutil.copytree(tuned.world, tmp_path / "world")
    shutil.copy2(tuned.study, tmp_path)
    other = replace(tuned, world=tmp_path / "world", study=tmp_path / tuned.study.name, run=tmp_path / "run")
    again = {"name": "again", "dataset": TARGET, "config": str(folder / "source.json")}
    other.change(sources=[again], targets=["dusk_street"], metrics=["gbc"])
    other.done("score-pairs")
    assert [row["source"] for row in other.rows("scores")] == ["again"]


def test_finished_fine_tunings_are_not_done_again_for_their_weights(finished, copy_of, invoke):
    workspace = copy_of(finished)
    before = workspace.state()
    keep_weights(workspace)
    assert workspace.done("finetune-pairs") == ""
    assert workspace.state() == before
    assert "keep_weights: true" in (workspace.run / "study.yaml").read_text()
    assert invoke("evaluate", workspace.run).err == ""  # the setting makes no result one of other settings
    assert checked(workspace, invoke).code == 0


def test_scratch_keeps_its_weights_too(finished, copy_of):
    workspace = copy_of(finished)
    keep_weights(workspace)
    (workspace.run / "performance/scratch" / f"{TARGET}.parquet").unlink()
    workspace.done("finetune-pairs", "--source", "scratch", "--target", TARGET)
    card = json.loads((workspace.run / "fine_tuned/scratch" / TARGET / "0/source.json").read_text())
    assert (card["source"], card["initialisation"]) == ("scratch", "random")


def test_the_map_after_fine_tuning_shows_the_same_pixels_aligned_with_the_map_before(tuned):
    frames = read_explanation(tuned.run, "day_street", TARGET)
    before, after = frames["map"], frames["map_fine_tuned"]
    assert before[["label", "image_index"]].equals(after[["label", "image_index"]])
    assert after.attrs["seed"] == 0
    places = [frame[["x", "y"]].to_numpy() for frame in (before, after)]
    assert not np.allclose(*places)
    np.testing.assert_allclose(places[0].mean(axis=0), places[1].mean(axis=0), atol=1e-8)
    # Turned as well as can be: the product of the two is symmetric and positive.
    product = (places[1] - places[1].mean(axis=0)).T @ (places[0] - places[0].mean(axis=0))
    assert product[0, 1] == pytest.approx(product[1, 0], rel=1e-6)
    assert (np.linalg.eigvalsh((product + product.T) / 2) > 0).all()
    assert "map_fine_tuned" not in read_explanation(tuned.run, "dusk_street", TARGET)


def test_a_map_of_deleted_weights_is_removed(tuned, copy_of, run_explain):
    workspace = copy_of(tuned)
    shutil.rmtree(workspace.run / "fine_tuned")
    assert "explained" not in run_explain(workspace, *ONE)
    assert not (workspace.run / FOLDER / "map_fine_tuned.parquet").exists()


def test_weights_of_another_schedule_are_not_shown(tuned, copy_of, run_explain):
    workspace = copy_of(tuned)
    tuning = workspace.study_fields()["fine_tuning"]
    keep_weights(workspace, changes=tuning["changes"] | {"learning_rate": 0.01})
    run_explain(workspace, *ONE)
    assert "map_fine_tuned" not in read_explanation(workspace.run, "day_street", TARGET)


def test_the_first_seed_whose_weights_are_there_is_shown(tuned, copy_of, run_explain):
    workspace = copy_of(tuned)
    keep_weights(workspace, seeds=[5, 0])
    run_explain(workspace, *ONE)
    assert read_explanation(workspace.run, "day_street", TARGET)["map_fine_tuned"].attrs["seed"] == 0
