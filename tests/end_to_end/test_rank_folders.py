"""rank on folders of images and label maps: it says what was understood, and scores are those of a manifest."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_folders import FOLDERS, rotate
from PIL import Image

import seg_transfer
from seg_transfer.data.manifest import load_manifest
from seg_transfer.errors import ConfigError, DoubtfulError
from seg_transfer.selection.target import target_manifest

MODELS = "models"
WRONG = 4
SUMMARY = [
    "4 pairs (same path); images: 48 x 64 pixels (height x width)",
    "8 classes from numbers: class_0 17.7%, class_1 18.5%, class_2 14.9%, class_3 10.0%, class_4 23.6%, class_5 6.3%, "
    "class_6 6.1%, class_7 2.8%",
    "ignored: 255 (7.6% of the pixels); 255 is ignored: all other values are ids from 0 to 7",
]

Scores = list[dict[str, Any]]


@pytest.fixture
def here(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two models, and a street of four images with their label maps."""
    shutil.copytree(trained.world / "day_street/train", tmp_path, dirs_exist_ok=True)
    for name in ("dusk_street", "cells_dark"):
        shutil.copytree(trained.run / "sources" / name, tmp_path / MODELS / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scores(invoke: Any) -> Callable[..., Scores]:
    """The ranking by GBC, bit for bit, but for the seconds it took."""

    def ranked(*options: str, run: str = "run") -> Scores:
        ended = invoke("rank", MODELS, *options, "--metric", "gbc", "--run-folder", run, "--json")
        assert ended.code == 0, ended.err
        return without_seconds(json.loads(ended.out)["ranking"])

    return ranked


def without_seconds(ranking: Scores) -> Scores:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in ranking]


def test_three_lines_say_what_was_understood(here, invoke):
    words = ("rank", MODELS, *FOLDERS, "--metric", "gbc", "--run-folder", "run")
    ended = invoke(*words)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:4] == [*SUMMARY, ""]
    ended = invoke(*words, "--json")
    assert ended.code == 0
    assert ended.err.splitlines() == SUMMARY
    assert json.loads(ended.out)["n_images"] == 4


def test_the_written_manifest_gives_the_same_scores(here, invoke, scores):
    assert invoke("inspect", *FOLDERS, "--write", "found.yaml").code == 0
    of_folders = scores(*FOLDERS)
    assert {row["source"] for row in of_folders} == {"dusk_street", "cells_dark"}
    assert scores("--target", "found.yaml", "--data-root", ".", run="of_manifest") == of_folders
    in_python = seg_transfer.rank_sources({"images": "images", "labels": "labels"}, MODELS, metric="gbc")
    assert without_seconds(in_python.as_dict()["ranking"]) == of_folders


def test_an_answer_changes_the_pixels_as_it_says(here, invoke, scores):
    """Rotated by hand, the same images have the same scores without an answer."""
    rotate(*(here / "images").iterdir())
    applied = scores(*FOLDERS, "--exif", "apply", "--ignore", "0,255")
    ignored = scores(*FOLDERS, "--exif", "ignore", "--ignore", "0,255", run="ignored")
    assert {row["source"]: row["score"] for row in applied} != {row["source"]: row["score"] for row in ignored}
    stated = {"images": "images", "labels": "labels", "ignore": [0, 255], "exif": "apply"}
    in_python = seg_transfer.rank_sources(target=stated, sources=MODELS, metric="gbc")
    assert without_seconds(in_python.as_dict()["ranking"]) == applied
    for file in (here / "images").iterdir():
        with Image.open(file) as image:
            pixels = np.asarray(image)
        Image.fromarray(pixels[::-1, ::-1]).save(file)
    assert scores(*FOLDERS, "--ignore", "0,255", run="by_hand") == applied


def test_a_doubt_stops_before_anything_is_computed(here, invoke):
    rotate(*(here / "images").iterdir())
    Path("names.txt").write_text("\n".join("abcdefghi"))
    ended = invoke("rank", MODELS, *FOLDERS, "--names", "names.txt", "--run-folder", "run")
    assert ended.reason(WRONG) == (
        "names.txt: name i never occurs in 4 label maps; state --first-id 0 "
        "(line 1 names value 0: such classes may be absent) (and 1 more: "
        "seg-transfer inspect lists them)"
    )
    assert ended.out == ""
    assert not Path("run").exists()
    ended = invoke("rank", MODELS, *FOLDERS, "--run-folder", "run", "--json")
    assert ended.reason(WRONG).startswith("images/train_0000.png: EXIF orientation 3 (4 of 4 images); state --exif ")
    assert (ended.out, ended.err.count("more: ")) == ("", 0)
    with pytest.raises(DoubtfulError, match="--exif apply"):
        seg_transfer.rank_sources({"images": "images", "labels": "labels"}, MODELS)


def test_no_more_images_are_looked_at_than_are_used(here, invoke):
    ended = invoke("rank", MODELS, *FOLDERS, "--metric", "gbc", "--n-images", "2", "--run-folder", "run")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0].startswith("4 pairs, of which 2 were looked at (same path); ")
    assert "\n2 images, " in ended.out
    assert load_manifest(Path("run/target.yaml")).low_shot.limit == 2


def test_a_budget_takes_folders(here, invoke, scores, monkeypatch):
    monkeypatch.setattr("seg_transfer.selection.rank.FIRST_N_IMAGES", 2)
    assert len(scores(*FOLDERS, "--budget")) == 2
    limits = {int(folder.name.removeprefix("images-")) for folder in Path("run").glob("images-*")}
    assert limits <= {2, 4}
    assert 2 in limits


def test_the_printed_command_explains_what_was_ranked_also_through_links(here, invoke, monkeypatch):
    for kind in ("images", "labels"):
        (here / "linked" / kind).mkdir(parents=True)
        for file in (here / kind).iterdir():
            (here / "linked" / kind / file.name).symlink_to(file)
    words = ("--images", "linked/images", "--labels", "linked/labels", "--metric", "gbc", "--run-folder", "run")
    ended = invoke("rank", MODELS, *words)
    assert (ended.code, ended.err) == (0, "")
    why, setting, program, *command = shlex.split(ended.out.splitlines()[-1])
    assert (why, program) == ("Why:", "seg-transfer")
    place = ["--run-folder", "run", "--data-root", "linked", "--target", "linked"]
    assert command == ["explain", "run/rank.yaml", *place]
    assert "leads out of linked; move the file inside, or set SEG_TRANSFER_FOLLOW_LINKS=1" in invoke(*command).err
    monkeypatch.setenv(*setting.split("="))
    explained = invoke(*command)
    assert (explained.code, explained.err) == (0, "")
    assert "classes that decide" in explained.out
    # Who has set the variable needs no hint.
    assert "FOLLOW_LINKS" not in invoke("rank", MODELS, *words).out


@pytest.mark.parametrize(
    ("options", "code", "reported"),
    [
        (
            ["--target", "found.yaml", "--exif", "apply"],
            3,
            "rank: --exif says how --images and --labels are read, ",
        ),
        (["--target", "found.yaml", "--max-pixels", "9"], 3, "rank: --max-pixels says how --images and --labels are "),
        (["--target", "found.yaml", *FOLDERS], 3, "rank: name either a manifest with --target, or two folders with "),
        (["--target", "found.yaml", "--names", "n.txt"], 3, "rank: name either a manifest with --target, or two "),
        (["--images", "images"], 3, "rank: name either a manifest with --target, or two folders with "),
        ([*FOLDERS, "--ignore", "x"], 3, "--ignore x: must be values such as 0,255, colors such as 0:0:0, or none; "),
        ([*FOLDERS, "--first-id", "0", "--names", "n.txt"], 3, "n.txt: "),
        (["--images", "photos", "--labels", "labels"], 4, "photos: no such file or folder; name the folder "),
    ],
)
def test_mistakes_are_one_line(here, invoke, options, code, reported):
    ended = invoke("rank", MODELS, *options)
    assert ended.reason(code).startswith(reported)
    assert ended.out == ""


@pytest.mark.parametrize(
    ("target", "reported"),
    [
        ({"images": "i", "labels": "l", "ingore": 0}, "target: key 'ingore' is unknown; choose among images, labels, "),
        ({"images": "i"}, "target: key 'labels' is missing; name the folder of labels"),
        ({"labels": "l", "images": None}, "target: key 'images' is missing; name the folder of images"),
        ({"images": "i", "labels": "l", "exif": "yes"}, "--exif yes: must be apply or ignore; correct it"),
    ],
)
def test_a_wrong_mapping_is_one_line(target, reported):
    with pytest.raises(ConfigError) as error:
        target_manifest(target, Path())
    assert str(error.value).startswith(reported)
