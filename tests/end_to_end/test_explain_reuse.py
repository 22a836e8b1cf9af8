"""`explain`: what a second run reuses, what goes wrong, and what `plan --check` says of its files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from explain_study import FOLDER, ONE, TARGET, checked
from PIL import Image

from seg_transfer.engines.here import run_items
from seg_transfer.observations.projection import umap_installed
from seg_transfer.stages import STAGES, context, explain, explaining
from seg_transfer.stages.explain import ExplainSettings
from seg_transfer.store.explanations import SCHEMAS, read_explanation
from seg_transfer.study.run import open_run


def refuse(*_, **__):
    raise AssertionError("ran the network")


# Reuse


def test_a_second_run_runs_no_network_and_changes_no_byte(tuned, copy_of, run_explain, monkeypatch):
    workspace = copy_of(tuned)
    first = run_explain(workspace, *ONE)  # paths of the data have changed, their content has not
    before = workspace.state()
    monkeypatch.setattr(explaining, "extract", refuse)
    monkeypatch.setattr(context, "extract_readings", refuse)
    assert run_explain(workspace, *ONE) == first
    assert workspace.state() == before
    assert "explained (" not in first


def test_an_engine_with_processes_of_its_own_prints_the_answer_once(tuned, copy_of, run_explain):
    workspace = copy_of(tuned)
    assert run_explain(workspace, *ONE, "--engine", "local") == run_explain(workspace, *ONE)


def test_json_is_all_that_stdout_gets_from_an_engine_with_processes_of_its_own(finished, copy_of, run_explain):
    (pair,) = json.loads(run_explain(copy_of(finished), *ONE, "--engine", "local", "--json"))["pairs"]
    assert (pair["source"], pair["target"]) == ("day_street", TARGET)


@pytest.mark.parametrize("name", SCHEMAS)
def test_only_a_missing_file_is_recomputed_and_it_is_the_same(tuned, copy_of, run_explain, name):
    workspace = copy_of(tuned)
    before = workspace.state()
    (workspace.run / FOLDER / f"{name}.parquet").unlink()
    assert "day_street -> cells_dark: explained (" in run_explain(workspace, *ONE)
    old, new = (read_explanation(one.run, "day_street", TARGET) for one in (tuned, workspace))
    assert new[name].equals(old[name])
    changed = {file for file, state in workspace.state().items() if state != before.get(file)}
    assert changed == {str(FOLDER / f"{name}.parquet")}


def test_another_sample_recomputes_all(tuned, copy_of, run_explain):
    workspace = copy_of(tuned)
    workspace.change(sampling={"pixels_per_image": 100})
    resolved = open_run(workspace.study, workspace.world, workspace.run).resolved
    assert read_explanation(workspace.run, "day_street", TARGET) is not None
    assert read_explanation(workspace.run, "day_street", TARGET, resolved=resolved) is None
    run_explain(workspace, *ONE)
    frames = read_explanation(workspace.run, "day_street", TARGET, resolved=resolved)
    assert frames["classes"]["n_pixels"].sum() == len(frames["map"]) == len(frames["map_fine_tuned"]) == 400


def test_one_changed_label_pixel_recomputes_its_target(tuned, copy_of, run_explain):
    workspace = copy_of(tuned)
    label = next((workspace.world / TARGET / "train/labels").iterdir())
    pixels = np.array(Image.open(label))
    pixels[20, 30] = (pixels[20, 30] + 1) % 6
    Image.fromarray(pixels).save(label)
    assert "explained (" in run_explain(workspace, *ONE)


@pytest.mark.skipif(not umap_installed(), reason="the extra umap is not installed")
def test_a_umap_replaces_the_map(tuned, copy_of, monkeypatch):
    """In this process it is replaced by what is quick; its own test is that of the projection."""
    workspace = copy_of(tuned)
    monkeypatch.setattr(explaining, "umap_points", lambda features, seed: features[:, :2].astype(np.float64))
    before = workspace.state()
    run_ = open_run(workspace.study, workspace.world, workspace.run)
    stage, by_umap = STAGES["explain"], ExplainSettings(umap=True)
    items = stage.items(run_, ["day_street"], [TARGET])
    assert list(stage.missing(run_, items, by_umap)) == items
    assert not stage.missing(run_, items, ExplainSettings())
    assert not stage.missing(run_, items)
    run_items(stage, run_, items, by_umap)
    assert not stage.missing(run_, items, by_umap)
    assert list(stage.missing(run_, items, ExplainSettings())) == items
    frames = read_explanation(workspace.run, "day_street", TARGET)
    for name in ("map", "map_fine_tuned"):
        assert (frames[name].attrs["method"], frames[name].attrs["explained"]) == ("umap", None)
    changed = {Path(file).stem for file, state in workspace.state().items() if state != before.get(file)}
    assert changed == {"map", "map_fine_tuned"}


# What goes wrong


def test_a_target_must_be_named(finished, invoke):
    ended = invoke("explain", *finished.place())
    assert ended.code == 2
    assert "--target" in ended.err


def test_umap_without_its_library_fails_before_any_work(finished, copy_of, invoke, monkeypatch):
    workspace = copy_of(finished)
    monkeypatch.setattr(explain, "umap_installed", lambda: False)
    ended = invoke("explain", *workspace.place(), *ONE, "--umap")
    assert ended.reason(3) == "--umap needs a library that is not installed: pip install 'seg_transfer[umap]'"
    assert not (workspace.run / "explanations").exists()


def test_one_source_that_is_missing_stops_no_other(finished, copy_of, invoke):
    workspace = copy_of(finished)
    (workspace.run / "sources/dusk_street/weights.safetensors").unlink()
    ended = invoke("explain", *workspace.place(), "--target", TARGET)
    assert ended.reason(5).startswith(f"dusk_street -> {TARGET}: ")
    assert f"day_street -> {TARGET}: GBC" in ended.out
    assert read_explanation(workspace.run, "day_street", TARGET) is not None
    assert read_explanation(workspace.run, "dusk_street", TARGET) is None


def test_damaged_files_are_named(tuned, copy_of, invoke):
    workspace = copy_of(tuned)
    file = workspace.run / FOLDER / "overlaps.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    ended = invoke("explain", *workspace.place(), *ONE)
    assert ended.reason(7).startswith(f"day_street -> {TARGET}: {file}: damaged result file (")


# plan --check


def test_a_run_folder_with_explanations_is_valid(tuned, invoke):
    ended = checked(tuned, invoke)
    assert (ended.code, ended.err) == (0, "")


def damaged(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)


def to_other(file):
    (file.parents[1] / "dusk_street").mkdir()
    shutil.move(file, file.parents[1] / "dusk_street" / file.name)


@pytest.mark.parametrize(
    ("file", "spoil", "reported"),
    [
        (FOLDER / "map.parquet", damaged, "damaged result file"),
        (FOLDER / "map_fine_tuned.parquet", damaged, "damaged result file"),
        (
            FOLDER / "overlaps.parquet",
            to_other,
            f"belongs to day_street -> {TARGET}, but its folder to day_street -> dusk_",
        ),
        (
            FOLDER / "maps.parquet",
            lambda file: file.write_bytes(b""),
            "not a file of an explanation, whose files are overlaps",
        ),
        (
            Path("fine_tuned/day_street", TARGET, "0/weights.safetensors"),
            damaged,
            "its contents differ from what",
        ),
        (
            Path("fine_tuned/day_street", TARGET, "0/source.json"),
            lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": 3})),
            f"belongs to day_street -> {TARGET}, seed 3, but its folder to day_street -> {TARGET}, seed 0; delete",
        ),
    ],
)
def test_the_check_finds_what_is_wrong(tuned, copy_of, invoke, file, spoil, reported):
    workspace = copy_of(tuned)
    spoil(workspace.run / file)
    ended = checked(workspace, invoke)
    assert ended.code == 7
    (line,) = ended.err.splitlines()
    assert reported in line
