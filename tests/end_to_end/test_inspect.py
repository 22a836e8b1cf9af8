"""inspect: what it prints and writes is what is in the folders."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from own_folders import FOLDERS, masks, rotate, save, write_folders

from seg_transfer.data.images import read_label
from seg_transfer.data.inspection import Answers
from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.records import list_records, low_shot_subset
from seg_transfer.selection.target import target_manifest


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which holds images and label maps."""
    monkeypatch.chdir(tmp_path)
    write_folders()
    return tmp_path


def test_everything_is_printed(invoke):
    ended = invoke("inspect", *FOLDERS)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "pairs       2; same path",
        "images      8 x 10 pixels (height x width)",
        "label maps  numbers",
        "ignored     255 (6.2% of the pixels)",
        "",
        "class    value    share  images",
        "class_0      0  63.333%       2",
        "class_1      1  23.333%       1",
        "class_2      2  13.333%       1",
        "note: 255 is ignored: all other values are ids from 0 to 2",
    ]


def test_json_has_the_same(invoke):
    ended = invoke("inspect", *FOLDERS, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert (found["n_pairs"], found["n_looked_at"], found["root"]) == (2, 2, ".")
    assert (found["height"], found["width"], found["encoding"]) == ([8, 8], [10, 10], "id")
    assert found["classes"] == {
        "class_0": {"value": "0", "share": 95 / 150, "pixels": 95, "images": 2},
        "class_1": {"value": "1", "share": 35 / 150, "pixels": 35, "images": 1},
        "class_2": {"value": "2", "share": 20 / 150, "pixels": 20, "images": 1},
    }
    assert (found["ignored"], found["ignored_share"]) == ({"255": 10}, 10 / 160)
    assert found["doubts"] == []


def test_sizes_that_differ_are_ranges_and_columns_are_aligned(invoke):
    save("images/a.png", np.random.default_rng(0).integers(0, 256, (12, 10, 3)))
    save("labels/a.png", np.repeat([0, 1], 60).reshape(12, 10))
    Path("names.txt").write_text("\u8eca\u9053\ncar\nFu\u00dfg\u00e4nger\n", encoding="utf-8")
    lines = invoke("inspect", *FOLDERS, "--names", "names.txt").out.splitlines()
    assert lines[1] == "images      8-12 x 10 pixels (height x width)"
    assert lines[5:9] == [
        "class      value    share  images",
        "\u8eca\u9053           0  60.000%       2",
        "car            1  30.000%       1",
        "Fu\u00dfg\u00e4nger      2  10.000%       1",
    ]


def test_what_is_left_out_is_named_from_the_working_directory(here, invoke):
    save("images/alone.png", np.zeros((8, 10, 3)))
    (here / "images/readme.txt").write_text("no image")
    for name in (".DS_Store", "Thumbs.db"):
        (here / "labels" / name).write_text("left by a file manager")
    lines = invoke("inspect", *FOLDERS).out.splitlines()
    assert "note: 1 image without a label map left out: images/alone.png" in lines
    assert "note: 1 other file (no image) left out: images/readme.txt" in lines
    assert "note: 2 other files (hidden) left out, such as labels/.DS_Store" in lines
    found = json.loads(invoke("inspect", *FOLDERS, "--json").out)
    assert found["images_without_label_map"] == ["images/alone.png"]
    assert found["skipped"] == {
        "no image": ["images/readme.txt"],
        "hidden": ["labels/.DS_Store", "labels/Thumbs.db"],
    }


def test_paths_are_absolute_if_they_are_given_so(here, invoke):
    rotate(Path("images/a.png"))
    out = invoke("inspect", "--images", here / "images", "--labels", here / "labels").out
    assert f"doubtful: {here}/images/a.png: EXIF orientation" in out
    assert "doubtful: images/a.png: EXIF orientation" in invoke("inspect", *FOLDERS).out


def test_a_written_manifest_reads_the_same(invoke):
    ended = invoke("inspect", *FOLDERS, "--write", "found.yaml")
    assert (ended.code, ended.err) == (0, "")
    command = "seg-transfer rank MODELS --target found.yaml --data-root ."
    assert ended.out.splitlines()[-1] == f"Written to found.yaml; rank models for it: {command}"
    manifest = load_manifest(Path("found.yaml"))
    records = list_records(manifest, Path(), "train")
    assert [record.image_id for record in records] == ["images/a", "images/b"]
    for record, mask in zip(records, masks().values(), strict=True):
        np.testing.assert_array_equal(read_label(record, manifest), mask)
    assert "# 255 is ignored: all other values are ids from 0 to 2\n" in Path("found.yaml").read_text()


def test_what_is_stated_is_written(invoke):
    rotate(Path("images/a.png"), Path("images/b.png"))
    ended = invoke("inspect", *FOLDERS, "--exif", "apply", "--ignore", "0,255", "--write", "found.yaml", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert set(json.loads(ended.out)["classes"]) == {"class_1", "class_2"}
    written = yaml.safe_load(Path("found.yaml").read_text())
    assert written["images"] == {"exif": "apply"}
    assert (written["labels"]["ignore"], written["labels"]["map"]) == ([0, 255], {1: 0, 2: 1})


def test_the_pixels_of_a_sample_are_read_or_of_all(invoke):
    """A class that only occurs outside the sample is found by --all."""
    for number in range(150):
        save(f"images/{number}.png", np.random.default_rng(number).integers(0, 256, (8, 10, 3)))
        save(f"labels/{number}.png", masks()["b"])
    manifest, root = target_manifest({"images": "images", "labels": "labels"}, Path())
    records = list_records(manifest, root, "train")
    sampled = low_shot_subset(records, 150, 0, manifest.name)
    left_out = next(record for record in records if record not in sampled)
    save(str(left_out.label), np.full((8, 10), 3))
    some = invoke("inspect", *FOLDERS)
    assert (some.code, some.out.splitlines()[0]) == (0, "pairs       152, of which 150 were looked at; same path")
    assert "class_3" not in some.out
    all_pairs = invoke("inspect", *FOLDERS, "--all")
    assert (all_pairs.code, all_pairs.out.splitlines()[0]) == (0, "pairs       152; same path")
    assert "class_3" in all_pairs.out


def test_large_images_are_tiles(invoke):
    out = invoke("inspect", *FOLDERS, "--max-pixels", "79").out
    assert out.splitlines()[0] == "pairs       2 in 2 tiles; same path"
    assert json.loads(invoke("inspect", *FOLDERS, "--max-pixels", "80", "--json").out)["n_tiles"] is None


def test_the_printed_command_follows_links_that_lead_out(here, invoke):
    """Links inside the folder need nothing."""
    written = invoke("inspect", *FOLDERS, "--write", "found.yaml").out
    assert "FOLLOW_LINKS" not in written
    (here / "labels/c.png").symlink_to("b.png")
    save("images/c.png", np.random.default_rng(1).integers(0, 256, (8, 10, 3)))
    assert "FOLLOW_LINKS" not in invoke("inspect", *FOLDERS, "--write", "found.yaml").out
    for kind in ("images", "labels"):
        (here / "linked" / kind).mkdir(parents=True)
        for name in masks():
            (here / "linked" / kind / f"{name}.png").symlink_to(here / kind / f"{name}.png")
    linked = ("--images", "linked/images", "--labels", "linked/labels")
    written = invoke("inspect", *linked, "--write", "found.yaml").out
    command = "SEG_TRANSFER_FOLLOW_LINKS=1 seg-transfer rank MODELS --target found.yaml --data-root linked"
    assert written.splitlines()[-1] == f"Written to found.yaml; rank models for it: {command}"


@pytest.mark.parametrize("command", ["inspect", "rank"])
def test_every_answer_is_an_option(command, invoke, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    ended = invoke(command, "--help")
    assert ended.code == 0
    for field in fields(Answers):
        assert f"--{field.name.replace('_', '-')} " in ended.out, field.name
