"""inspect: what it prints is what is in the folders; a doubt or a mistake is one line, and every answer is followed."""

import io
import itertools
import json
import os
import shlex
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from seg_transfer.cli import main
from seg_transfer.data.images import read_label
from seg_transfer.data.inspection import Answers
from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.records import list_records, low_shot_subset
from seg_transfer.selection.target import target_manifest

FOLDERS = ("--images", "images", "--labels", "labels")
WRONG = 4
ROTATED = 3  # the EXIF orientation of a picture that was taken upside down


def save(file: str, pixels: Any, **options: Any) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, **options)


def masks() -> dict[str, Any]:
    """Of 160 pixels, 95 are 0, 35 are 1, 20 are 2, and 10 are not labeled."""
    first, second = np.zeros((8, 10)), np.zeros((8, 10))
    first[:, 5:] = 1
    first[0] = 255
    second[4:, 5:] = 2
    return {"a": first, "b": second}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which holds images and label maps."""
    monkeypatch.chdir(tmp_path)
    for name, mask in masks().items():
        save(f"labels/{name}.png", mask)
        save(f"images/{name}.png", np.random.default_rng(0).integers(0, 256, (8, 10, 3)))
    return tmp_path


def rotate(*names: str) -> None:
    """State in image files that they were taken upside down."""
    for name in names:
        with Image.open(f"images/{name}.png") as image:
            exif = image.getexif()
            exif[0x0112] = ROTATED
            image.save(f"images/{name}.png", exif=exif)


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
    rotate("a")
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
    rotate("a", "b")
    ended = invoke("inspect", *FOLDERS, "--exif", "apply", "--ignore", "0,255", "--write", "found.yaml", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert set(json.loads(ended.out)["classes"]) == {"class_1", "class_2"}
    written = yaml.safe_load(Path("found.yaml").read_text())
    assert written["images"] == {"exif": "apply"}
    assert (written["labels"]["ignore"], written["labels"]["map"]) == ([0, 255], {1: 0, 2: 1})


def test_every_doubt_is_listed_and_every_answer_ends_it(invoke):
    rotate("b")
    Path("names.txt").write_text("road\ncar\nsky\nbird\n")
    given = (*FOLDERS, "--names", "names.txt")
    ended = invoke("inspect", *given, "--write", "found.yaml")
    assert ended.reason(WRONG) == "images: 2 doubts, listed above; state an option for each and inspect again"
    doubts = [line for line in ended.out.splitlines() if line.startswith("doubtful: ")]
    assert doubts == [
        "doubtful: names.txt: name bird never occurs in 2 masks; state --first-id 0 (line 1 names 0, as they are)",
        "doubtful: images/b.png: EXIF orientation 3 (1 of 2 images); state --exif apply (masks were drawn on the "
        "upright picture) or --exif ignore (masks were drawn on the stored pixels)",
    ]
    last = ended.out.splitlines()[-1]
    assert last == "Written to found.yaml, with what is doubtful as comments; correct it before you use it."
    assert set(doubts) <= {line.removeprefix("# ") for line in Path("found.yaml").read_text().splitlines()}
    ended = invoke("inspect", *given, "--json")
    assert ended.reason(WRONG).startswith("images: 2 doubts, ")
    options = [doubt["options"] for doubt in json.loads(ended.out)["doubts"]]
    assert [len(some) for some in options] == [1, 2]
    for some in itertools.product(*options):
        assert invoke("inspect", *given, *shlex.split(" ".join(some))).code == 0


def test_the_value_to_ignore_is_named_with_those_that_are_ignored_already(invoke):
    Path("names.txt").write_text("road\ncar\n")
    reason = invoke("inspect", *FOLDERS, "--names", "names.txt").reason(WRONG)
    *_, option, values = reason.split()
    assert (option, values) == ("--ignore", "2,255")
    ended = invoke("inspect", *FOLDERS, "--names", "names.txt", option, values)
    assert (ended.code, ended.err) == (0, "")
    assert "ignored     2, 255 (18.8% of the pixels)" in ended.out


def test_one_answer_leaves_the_other_doubt(invoke):
    rotate("b")
    Path("names.txt").write_text("road\ncar\nsky\nbird\n")
    ended = invoke("inspect", *FOLDERS, "--names", "names.txt", "--exif", "ignore")
    assert ended.reason(WRONG) == "images: 1 doubt, listed above; state an option for it and inspect again"
    assert ended.out.count("doubtful: ") == 1


@pytest.mark.parametrize(
    ("options", "code", "reported"),
    [
        (["--images", "photos"], 4, "photos: no such file or folder; name the folder that holds the files"),
        (["--labels", "empty"], 4, "empty: no label map in it; name the folder that holds one for each image"),
        (["--names", "nosuch.txt"], 3, "nosuch.txt: "),
        (
            ["--names", "two.txt"],
            4,
            "labels/b.png: value 2 has no name: the 2 lines of two.txt name 0 to 1; add ",
        ),
        (["--ignore", "red"], 3, "--ignore red: must be values such as 0,255, colors such as 0:0:0, or none; correct"),
        (["--ignore", "0:0:0"], 4, "--ignore 0:0:0: masks are read as numbers, such as --ignore 255; correct it"),
        (["--exif", "yes"], 3, "--exif yes: must be apply or ignore; correct it"),
        (["--first-id", "2"], 3, "--first-id 2: must be 0 or 1; correct it"),
        (["--bands", "4,2,1"], 4, "images/a.png: has 3 bands, but --bands names band 4; name bands that every image"),
        (["--range", "9,1"], 3, "--range 9,1: must be the values for black and white, such as 0,4095; correct it"),
        (["--max-pixels", "0"], 3, "--max-pixels 0: must be a number of pixels, at least 1; correct it"),
        (["--write", "images"], 3, "--write images: is a folder; name the file to write"),
    ],
)
def test_a_mistake_is_one_line(here, invoke, options, code, reported):
    (here / "empty").mkdir()
    Path("two.txt").write_text("road\ncar\n")
    ended = invoke("inspect", *FOLDERS, *options)
    assert ended.reason(code).startswith(reported)
    assert ended.out == ""


def test_damaged_files_and_other_sizes_are_named(here, invoke):
    save("labels/b.png", np.zeros((8, 9)))
    assert invoke("inspect", *FOLDERS).reason(WRONG).startswith("labels/b.png: 8 x 9 (height x width), but its image ")
    (here / "labels/a.png").write_bytes(b"no image")
    assert invoke("inspect", *FOLDERS).reason(WRONG).startswith("labels/a.png: cannot be decoded")


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


def test_a_name_does_not_control_the_terminal(here, invoke):
    (here / "images/\x1b[2Jred.txt").write_text("no image")
    out = invoke("inspect", *FOLDERS).out
    assert "\\x1b[2Jred.txt" in out
    assert "\x1b" not in out


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


def test_a_terminal_without_an_encoding_for_a_name_gets_it_escaped(here, monkeypatch):
    folder = os.fsdecode(b"caf\xe9")
    for kind in ("images", "labels"):
        shutil.copytree(here / kind, here / folder / kind)
    rotate("a")
    shutil.copy("images/a.png", here / folder / "images")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", errors="strict"))
    place = ("--images", f"{folder}/images", "--labels", f"{folder}/labels", "--exif", "ignore")
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *place, "--write", f"{folder}/found.yaml"])
    assert ended.value.code == 0
    sys.stdout.flush()
    *_, last = written.getvalue().decode("ascii").splitlines()
    assert last.startswith("Written to caf\\udce9/found.yaml; ")
    assert load_manifest(here / folder / "found.yaml").images.exif == "ignore"


def test_a_place_that_cannot_be_written_is_named(here, invoke):
    (here / "file").write_text("no folder")
    reason = invoke("inspect", *FOLDERS, "--write", "file/found.yaml").reason(1)
    assert reason.startswith("--write file/found.yaml: cannot be written (")


@pytest.mark.parametrize("command", ["inspect", "rank"])
def test_every_answer_is_an_option(command, invoke, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    ended = invoke(command, "--help")
    assert ended.code == 0
    for field in fields(Answers):
        assert f"--{field.name.replace('_', '-')} " in ended.out, field.name
