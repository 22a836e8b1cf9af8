import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from seg_transfer.data.audit import audit, audit_dict, audit_lines
from seg_transfer.data.images import read_image, read_label
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import list_records, low_shot_subset

Manifest = Callable[..., DatasetManifest]
TRAIN = {"images": "train/images/*.png", "labels": "train/labels/*.png"}


def test_counts_equal_a_slow_reference(mini: Path, manifest: Manifest) -> None:
    few = manifest(low_shot={"limit": 2, "seed": 1})
    report = audit(few, mini)
    assert report.problems == ()
    assert list(report.splits) == ["train", "eval", "low_shot"]
    train = list_records(few, mini, "train")
    subset = low_shot_subset(train, 2, 1, "mini")
    assert list(report.low_shot) == subset
    for name, records in (("train", train), ("eval", list_records(few, mini, "eval")), ("low_shot", subset)):
        split = report.splits[name]
        labels = [read_label(record, few) for record in records]
        pixels = np.concatenate([read_image(record).reshape(-1, 3) for record in records]) / 255
        flat = np.concatenate([label.ravel() for label in labels]).tolist()
        assert split.n_images == len(records)
        assert split.class_pixels.dtype == np.int64
        assert split.class_pixels.tolist() == [flat.count(index) for index in range(3)]
        assert split.class_images.tolist() == [sum(index in label for label in labels) for index in range(3)]
        assert split.ignored_pixels == flat.count(255)
        assert split.n_pixels == len(flat)
        assert split.ignored_share == pytest.approx(flat.count(255) / len(flat))
        labeled = len(flat) - flat.count(255)
        assert split.class_shares == pytest.approx([flat.count(index) / labeled for index in range(3)])
        assert split.mean == pytest.approx(pixels.mean(axis=0), rel=1e-12)
        assert split.std == pytest.approx(pixels.std(axis=0), rel=1e-12)


def test_sizes_are_ranges(mini: Path, manifest: Manifest, write_pair: Callable[..., None]) -> None:
    write_pair(mini / "mini/train", "wide", size=(5, 30))
    write_pair(mini / "mini/train", "high", size=(22, 7))
    train = audit(manifest(), mini).splits["train"]
    assert (train.smallest, train.largest) == ((5, 7), (22, 30))


def test_source_train_is_counted_and_shared_files_are_read_once(
    mini: Path, manifest: Manifest, write_pair: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    unwatched = ImageFile.ImageFile.load_prepare

    def watched(image: Any) -> None:
        decoded.append(image.filename)
        unwatched(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", watched)
    write_pair(mini / "mini/extra", "z", size=(3, 40))
    wider = manifest(source_train={"images": ["train/images/*", "extra/images/*"], "labels": "*[na]/labels/*.png"})
    report = audit(wider, mini)
    assert report.problems == ()
    assert [split.n_images for split in report.splits.values()] == [5, 2, 6, 5]
    assert report.splits["source_train"].n_pixels == report.splits["train"].n_pixels + 120
    assert report.splits["source_train"].largest == (6, 40)
    assert len(decoded) == len(set(decoded)) == 16


def test_missing_classes(mini: Path, manifest: Manifest) -> None:
    for stem in "xy":
        path = mini / f"mini/test/labels/{stem}.png"
        label = np.asarray(Image.open(path)).copy()
        label[label == 2] = 0
        Image.fromarray(label).save(path)
    report = audit(manifest(), mini)
    assert report.missing_classes("eval") == ("car",)
    assert report.missing_classes("train") == report.missing_classes("low_shot") == ()
    assert report.problems == ()


def test_all_problems_are_collected(mini: Path, manifest: Manifest) -> None:
    root = mini / "mini"
    (root / "train/labels/a.png").unlink()
    (root / "train/images/b.png").write_bytes((root / "train/images/b.png").read_bytes()[:70])
    (root / "train/labels/b.png").write_bytes(b"nothing")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "train/labels/c.png")
    label = np.asarray(Image.open(root / "test/labels/x.png")).copy()
    label[7, 2] = 99
    Image.fromarray(label).save(root / "test/labels/x.png")
    report = audit(manifest(train=TRAIN | {"count": 5}), mini)
    expected = [
        "mini train: image train/images/a.png has no label",
        "mini train: found 4 pairs, but train.count is 5",
        "train/images/b.png: cannot be decoded",
        "train/labels/b.png: cannot be decoded",
        "train/labels/c.png: 3 x 3 (height x width), but its image",
        "test/labels/x.png: value 99 at row 7, column 2 is not in the label map",
    ]
    assert len(report.problems) == len(expected)
    for problem, text in zip(report.problems, expected, strict=True):
        assert text in problem
        assert "\n" not in problem
    assert [split.n_images for split in report.splits.values()] == [2, 1, 2]


def test_a_missing_dataset_is_a_problem(tmp_path: Path, manifest: Manifest) -> None:
    report = audit(manifest(), tmp_path)
    assert [problem.split(":")[0] for problem in report.problems] == ["mini train", "mini eval"]
    assert report.splits == {}
    assert report.low_shot == ()
    assert audit_dict(report)["low_shot"]["count"] == 0
    title, *rest = audit_lines(report)  # and no table, which would be empty
    assert (title, rest[0]) == ("mini: A miniature", "problems: 2")
    assert rest[1:] == [*(f"  {problem}" for problem in report.problems), "doubtful: 0"]


def test_images_in_both_train_and_eval_are_a_problem(mini: Path, manifest: Manifest) -> None:
    mixed = manifest(
        eval={"images": ["test/images/*", "train/images/c*"], "labels": ["test/labels/*", "train/labels/c*"]}
    )
    report = audit(mixed, mini)
    assert report.problems == (
        "mini train: image train/images/c is also in eval; exclude it from one of them",
    )  # fmt: skip


def test_an_image_without_any_label(mini: Path, manifest: Manifest) -> None:
    for stem in "xy":
        Image.fromarray(np.full((9, 7), 255, np.uint8)).save(mini / f"mini/test/labels/{stem}.png")
    split = audit(manifest(), mini).splits["eval"]
    assert split.ignored_share == 1
    assert split.class_shares.tolist() == [0, 0, 0]


def test_a_constant_image_has_no_deviation(mini: Path, manifest: Manifest) -> None:
    for stem in "xy":
        Image.fromarray(np.full((9, 7, 3), (7, 33, 177), np.uint8)).save(mini / f"mini/test/images/{stem}.png")
    split = audit(manifest(), mini).splits["eval"]
    assert split.mean == pytest.approx(np.array([7, 33, 177]) / 255)
    assert split.std == pytest.approx(0, abs=1e-7)


def test_report_as_json(mini: Path, manifest: Manifest) -> None:
    report = audit(manifest(low_shot={"limit": 3, "seed": 7}), mini)
    data = json.loads(json.dumps(audit_dict(report), allow_nan=False))
    assert data["dataset"] == "mini"
    assert data["problems"] == []
    assert data["low_shot"] == {"count": 3, "limit": 3, "seed": 7}
    train, split = data["splits"]["train"], report.splits["train"]
    assert (train["n_images"], train["height"], train["width"], train["n_pixels"]) == (5, [6, 6], [8, 8], 240)
    assert train["classes"]["road"] == {
        "pixels": int(split.class_pixels[1]),
        "share": split.class_shares[1],
        "images": 5,
    }
    assert train["mean"] == split.mean.tolist()
    assert train["std"] == split.std.tolist()
    assert train["missing_classes"] == []


def test_report_as_text(mini: Path, manifest: Manifest) -> None:
    (mini / "mini/test/labels/x.png").unlink()
    report = audit(manifest(low_shot={"limit": 3}), mini)
    lines = audit_lines(report)
    assert lines[0] == "mini: A miniature"
    assert lines[1].startswith("train: 5 images of 6 x 8 pixels, ")
    assert "low_shot is 3 images of train: limit 3, seed 0" in lines
    road = next(line for line in lines if line.startswith("road")).split()
    assert [float(share) for share in road[1:]] == pytest.approx(
        [split.class_shares[1] for split in report.splits.values()], abs=5e-6
    )
    (doubt,) = report.doubts  # the labels of the miniature are noise
    assert lines[-4:-2] == ["problems: 1", f"  {report.problems[0]}"]
    assert lines[-2].startswith("doubtful: 1 (no problems")
    assert lines[-1] == f"  {doubt.line}"
