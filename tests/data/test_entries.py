"""Which entry of an annotation file is which image's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data.coco_files import SIZE, annotation, content, rectangle, write
from pydantic import ValidationError

from seg_transfer.data.images import read_label
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import find_records, list_records
from seg_transfer.errors import DataError
from seg_transfer.store.content_key import records_key

Manifest = Callable[..., DatasetManifest]
LABELS = {"encoding": "coco", "map": {0: 0, 3: 1, 7: 2}}


def images(*names: Any) -> list[dict[str, Any]]:
    """Entries with the ids 1, 2, ..."""
    size = {"height": SIZE[0], "width": SIZE[1]}
    return [{"id": number, "file_name": name, **size} for number, name in enumerate(names, start=1)]


@pytest.fixture
def coco(manifest: Manifest) -> Manifest:
    def make(**split: Any) -> DatasetManifest:
        files = {"images": "images/**/*.png", "labels": "*.json"} | split
        return manifest(labels=LABELS, train=files, eval=None)

    return make


def pairs(root: Path, manifest: DatasetManifest) -> dict[str, int | None]:
    return {record.image_id: record.entry for record in list_records(manifest, root, "train")}


@pytest.mark.parametrize(
    "name", ["a.png", "x/a.png", "images/x/a.png", "train2017/a.png", "/home/me/x/a.png", r"C:\data\x\a.png"]
)
def test_an_image_is_found_by_its_name_whatever_the_folders(tmp_path: Path, coco: Manifest, name: str) -> None:
    write(tmp_path, content(images=images("b.png", name)), ["b.png", "x/a.png"])
    assert pairs(tmp_path, coco()) == {"images/b": 0, "images/x/a": 1}


def test_the_longest_agreement_of_paths_decides(tmp_path: Path, coco: Manifest) -> None:
    names = ["x/a.png", "y/a.png", "a.png"]
    write(tmp_path, content(images=images("data/y/a.png", "data/x/a.png", "images/a.png")), names)
    assert pairs(tmp_path, coco()) == {"images/x/a": 1, "images/y/a": 0, "images/a": 2}


def test_an_entry_of_another_folder_does_not_take_the_image_of_its_namesake(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(images=images("y/a.png", "x/a.png")), ["x/a.png"])
    assert pairs(tmp_path, coco(unpaired="ignore")) == {"images/x/a": 1}
    with pytest.raises(DataError, match=r"labels\.json: there is no image 'y/a\.png'; add the image or remove"):
        pairs(tmp_path, coco())


def test_a_name_that_fits_two_images_is_a_problem(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(images=images("a.png")), ["x/a.png", "y/a.png"])
    with pytest.raises(DataError, match=r"labels\.json: 'a\.png' fits both images/x/a\.png and images/y/a\.png; write"):
        pairs(tmp_path, coco(unpaired="ignore"))


def test_two_entries_for_one_image_are_a_problem(tmp_path: Path, coco: Manifest) -> None:
    file = write(tmp_path, content(images=images("a.png", "a.png")))
    with pytest.raises(DataError, match=r"entry 1 names the image images/a\.png, as entry 0 of labels\.json does"):
        pairs(tmp_path, coco())
    write(tmp_path, content(images=images("a.png")))
    (file.parent / "more.json").write_bytes(file.read_bytes())
    with pytest.raises(DataError, match=r"more\.json: entry 0 names the image images/a\.png, as entry 0 of labels\.js"):
        pairs(tmp_path, coco())


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_must_be_a_path(tmp_path: Path, coco: Manifest, name: object) -> None:
    write(tmp_path, content(images=images(name)))
    with pytest.raises(DataError, match=r"labels\.json: file_name .* is not a path; correct the entry"):
        pairs(tmp_path, coco())


def test_images_without_an_entry_are_named_or_left_out(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(images=images("a.png", "c.png")), ["a.png", "b.png"])
    _, problems = find_records(coco(), tmp_path, "train")
    assert [problem.split("; ")[0] for problem in problems] == [
        "mini train: labels.json: there is no image 'c.png'",
        "mini train: image images/b.png has no entry in labels.json",
    ]
    assert pairs(tmp_path, coco(unpaired="ignore")) == {"images/a": 0}


def test_a_split_without_any_pair_is_a_problem(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(images=images("c.png")))
    _, problems = find_records(coco(unpaired="ignore"), tmp_path, "train")
    assert [problem.split("; ")[0] for problem in problems] == [
        "mini train: labels.json: there is no image 'c.png'",
        "mini train: image images/a.png has no entry in labels.json",
    ]


def test_several_files_are_read_together(tmp_path: Path, coco: Manifest) -> None:
    file = write(tmp_path, content(annotation(7, rectangle(0, 0, 8, 10)), images=images("b.png")), ["a.png", "b.png"])
    file.rename(file.with_name("more.json"))
    write(tmp_path, content(annotation(3, rectangle(0, 0, 8, 10)), images=images("a.png")))
    records = list_records(coco(), tmp_path, "train")
    assert [int(read_label(record, coco())[0, 0]) for record in records] == [1, 2]


def test_files_outside_the_root_are_refused(tmp_path: Path, coco: Manifest) -> None:
    file = write(tmp_path, content(images=images("a.png")))
    file.rename(tmp_path / "elsewhere.json")
    file.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(DataError, match=r"labels\.json leads out of"):
        pairs(tmp_path, coco())


def test_the_content_key_depends_on_annotations_and_entry(tmp_path: Path, coco: Manifest) -> None:
    keys = set()
    for names in (("a.png", "b.png"), ("b.png", "a.png")):
        for category in (3, 7):
            write(tmp_path, content(annotation(category, rectangle(0, 0, 1, 1)), images=images(*names)), names)
            keys.add(records_key(list_records(coco(), tmp_path, "train"), trust_mtime=False))
    assert len(keys) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"pairing": {"image": "(.)", "label": "(.)"}},
        {"train": {"lists": "list.txt"}},
        {"eval": {"images": "*", "labels": "*", "stems": "s.txt"}},
    ],
)
def test_rules_that_would_have_no_effect_are_refused(manifest: Manifest, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="files pair by themselves; remove 'pairing', 'lists' and 'stems'"):
        manifest(labels=LABELS, **changes)
