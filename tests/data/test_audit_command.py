"""The report of the audit about scenes, and the command."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.audit_scenes import HEIGHT, SPLIT, WIDTH, write
from data.corpus.files import gray8, write_oriented

from seg_transfer.cli import data as command
from seg_transfer.data.audit import AuditReport, audit_dict
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]
Audited = Callable[..., AuditReport]


def test_tiles_of_an_image_in_two_splits_are_one_problem(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path)
    report = audited(tiles={"above": 600, "size": 16}, eval={"images": "train/images/b*", "labels": "train/labels/b*"})
    assert report.problems[:1] == ("mini train: image train/images/b is also in eval; exclude it from one of them",)
    assert len(report.problems) == 1
    assert report.splits["eval"].n_images == 12


def test_a_scene_is_doubted_once_whatever_its_tiles(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path, image=lambda path, pixels: write_oriented(path, pixels, 3), images=".jpg")
    (doubt,) = audited(tiles={"above": 600, "size": 16}).doubts
    assert "(3 of 3 images)" in doubt.line


def test_doubts_are_in_the_json(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path)
    report = audited(classes=["sky", "road", "car", "bus"])
    assert json.loads(json.dumps(audit_dict(report)))["doubtful"] == [
        {
            "kind": "unseen",
            "line": report.doubts[0].line,
            "options": ["labels.map with all values", "classes without them"],
        }
    ]


def test_the_command_ends_well_with_doubts_and_not_with_problems(
    tmp_path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, image=lambda path, pixels: write_oriented(path, pixels, 3), images=".jpg")
    file = tmp_path / "mini.yaml"
    file.write_text(manifest(train=SPLIT, eval=None).as_yaml(), encoding="utf-8")
    command.audit(file, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == ("doubtful: 1 (no problems: until other lines are stated, files are read as the manifest says)")
    assert "state images.exif: apply" in lines[-1]
    gray8(tmp_path / "mini/train/labels/a.png", np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"1 problem\(s\), listed above"):
        command.audit(file, tmp_path)


def test_names_that_are_no_text_are_printed(
    tmp_path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    name = os.fsdecode(b"\xff.png")
    for kind in ("images", "labels"):
        folder = tmp_path / "mini/train" / kind
        (folder / "b.png").rename(folder / name)
    gray8(folder / name, np.full((HEIGHT, WIDTH), 77))
    file = tmp_path / "mini.yaml"
    file.write_text(manifest(train=SPLIT, eval=None).as_yaml(), encoding="utf-8")
    with pytest.raises(DataError):
        command.audit(file, tmp_path)
    assert "value 77" in capsys.readouterr().out
