"""inspect: a doubt or a mistake is one line, and every answer is followed."""

import io
import itertools
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from own_folders import FOLDERS, rotate, save, write_folders

from seg_transfer.cli import main
from seg_transfer.data.manifest import load_manifest

WRONG = 4


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which holds images and label maps."""
    monkeypatch.chdir(tmp_path)
    write_folders()
    return tmp_path


def test_every_doubt_is_listed_and_every_answer_ends_it(invoke):
    rotate(Path("images/b.png"))
    Path("names.txt").write_text("road\ncar\nsky\nbird\n")
    given = (*FOLDERS, "--names", "names.txt")
    ended = invoke("inspect", *given, "--write", "found.yaml")
    assert ended.reason(WRONG) == "images: 2 doubts, listed above; state an option for each and inspect again"
    doubts = [line for line in ended.out.splitlines() if line.startswith("doubtful: ")]
    assert doubts == [
        "doubtful: names.txt: name bird never occurs in 2 label maps; state --first-id 0 "
        "(line 1 names value 0: such classes may be absent)",
        "doubtful: images/b.png: EXIF orientation 3 (1 of 2 images); state --exif apply (label maps were drawn on the "
        "upright picture) or --exif ignore (label maps were drawn on the stored pixels)",
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
    rotate(Path("images/b.png"))
    Path("names.txt").write_text("road\ncar\nsky\nbird\n")
    ended = invoke("inspect", *FOLDERS, "--names", "names.txt", "--exif", "ignore")
    assert ended.reason(WRONG) == "images: 1 doubt, listed above; state an option for it and inspect again"
    assert ended.out.count("doubtful: ") == 1


@pytest.mark.parametrize(
    ("options", "code", "reported"),
    [
        (["--images", "photos"], 4, "photos: no such file or folder; name the folder that holds the files"),
        (["--labels", "empty"], 4, "empty: no label map in it (it is empty); name the folder that holds one for"),
        (["--names", "nosuch.txt"], 3, "nosuch.txt: "),
        (
            ["--names", "two.txt"],
            4,
            "labels/b.png: value 2 has no name: the 2 lines of two.txt name 0 to 1; add ",
        ),
        (["--ignore", "red"], 3, "--ignore red: must be values such as 0,255, colors such as 0:0:0, or none; correct"),
        (["--ignore", "0:0:0"], 4, "--ignore 0:0:0: label maps are read as numbers, such as --ignore 255; correct it"),
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


def test_a_name_does_not_control_the_terminal(here, invoke):
    (here / "images/\x1b[2Jred.txt").write_text("no image")
    out = invoke("inspect", *FOLDERS).out
    assert "\\x1b[2Jred.txt" in out
    assert "\x1b" not in out


def test_a_terminal_without_an_encoding_for_a_name_gets_it_escaped(here, monkeypatch):
    folder = os.fsdecode(b"caf\xe9")
    for kind in ("images", "labels"):
        shutil.copytree(here / kind, here / folder / kind)
    rotate(Path("images/a.png"))
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
