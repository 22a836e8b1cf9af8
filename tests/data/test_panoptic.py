import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.label_images import record_of
from PIL import Image

from seg_transfer.data.audit import audit
from seg_transfer.data.encodings import panoptic
from seg_transfer.data.images import read_label
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import list_records
from seg_transfer.errors import DataError
from seg_transfer.store.content_key import records_key

Manifest = Callable[..., DatasetManifest]
# Ids beyond one byte and beyond two; the largest that three channels hold.
SEGMENTS = [(7, 30), (300, 10), (70_000, 20), (16_777_215, 10)]
IDS = np.array([[7, 7, 300, 0], [70_000, 16_777_215, 300, 0]])
CATEGORIES = [[30, 30, 10, 0], [20, 10, 10, 0]]
LABELS = {"encoding": "panoptic", "map": {10: 0, 20: 1, 30: 2}, "ignore": [0]}


def write_png(path: Path, ids: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)).save(path)


def annotation(name: str, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found = [{"id": a, "category_id": b, "iscrowd": 0, "area": 5, "bbox": [0, 0, 1, 1]} for a, b in pairs]
    return {"segments_info": found, "file_name": name, "image_id": 3}


def write_json(file: Path, *annotations: dict[str, Any]) -> None:
    categories = [{"supercategory": "x", "isthing": 1, "id": 10, "name": "y"}]
    images = [{"license": 1, "file_name": "a.jpg", "id": 3, "height": 2, "width": 4}]
    content = {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """mini/images/{a,b}.png and mini/panoptic/{a,b}.png with their JSON; b is one segment."""
    for name, ids in (("a.png", IDS), ("b.png", np.full((2, 4), 300))):
        write_png(tmp_path / "mini/panoptic" / name, ids)
        (tmp_path / "mini/images").mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 4, 3), 9, np.uint8)).save(tmp_path / "mini/images" / name)
    write_json(tmp_path / "mini/panoptic.json", annotation("a.png", SEGMENTS), annotation("b.png", [(300, 20)]))
    return tmp_path / "mini"


def of(manifest: Manifest) -> DatasetManifest:
    split = {"images": "images/*.png", "labels": "panoptic/*.png"}
    return manifest(labels=LABELS, train=split, eval=split)


def test_a_pixel_has_the_category_of_its_segment_in_its_own_image(split: Path, manifest: Manifest) -> None:
    raw = panoptic.categories_of(split / "panoptic/a.png", IDS)
    assert raw.tolist() == CATEGORIES
    assert read_label(record_of(split / "panoptic/a.png"), of(manifest)).tolist() == [[2, 2, 0, 255], [1, 0, 0, 255]]
    assert read_label(record_of(split / "panoptic/b.png"), of(manifest)).tolist() == [[1] * 4] * 2


def test_a_category_without_a_class_is_named(split: Path, manifest: Manifest) -> None:
    few = manifest(labels=LABELS | {"map": {10: 0, 30: 2}})
    with pytest.raises(DataError, match=r"a\.png: value 20 at row 1, column 0 is not in the label map of mini"):
        read_label(record_of(split / "panoptic/a.png"), few)


def test_a_segment_without_a_category_is_named(split: Path, manifest: Manifest) -> None:
    for pairs in (SEGMENTS[:1] + SEGMENTS[2:], []):
        write_json(split / "panoptic.json", annotation("a.png", pairs))
        wrong = 300 if pairs else 7
        with pytest.raises(DataError, match=rf"a\.png: segment {wrong} at row 0, column . is not in panoptic\.json"):
            read_label(record_of(split / "panoptic/a.png"), of(manifest))
    with pytest.raises(DataError, match=r"panoptic\.json: has no entry for b\.png; add the entry"):
        read_label(record_of(split / "panoptic/b.png"), of(manifest))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"{}",
        b'"text"',
        b'{"annotations": 3}',
        b'{"annotations": [3]}',
        b'{"annotations": [{"segments_info": [{"id": 1}], "file_name": "a.png"}]}',
        b'{"annotations": [{"segments_info": [{"id": 1.5, "category_id": 2}], "file_name": "a.png"}]}',
        b'{"annotations": [{"segments_info": [{"id": "1", "category_id": 2}], "file_name": "a.png"}]}',
        b'{"annotations": [{"segments_info": [{"id": 1e999, "category_id": 2}], "file_name": "a.png"}]}',
        b'{"annotations": [{"segments_info": [{"id": 99999999999999999999999, "category_id": 2}], "file_name": "a"}]}',
        b'{"annotations": [{"segments_info": 7, "file_name": "a.png"}]}',
        b'{"annotations": [{"segments_info": []}]}',
        b"[" * 100_000,
    ],
)
def test_other_json_is_one_line(split: Path, manifest: Manifest, content: bytes) -> None:
    (split / "panoptic.json").write_bytes(content)
    with pytest.raises(DataError, match=r"panoptic\.json: not a JSON file of panoptic annotations") as caught:
        read_label(record_of(split / "panoptic/a.png"), of(manifest))
    assert "\n" not in str(caught.value)


def test_a_missing_json_is_one_problem_of_the_split(split: Path, manifest: Manifest) -> None:
    (split / "panoptic.json").unlink()
    report = audit(of(manifest), split.parent)
    listed = [problem for problem in report.problems if problem.startswith("mini train: panoptic.json")]
    assert listed == [f"mini train: panoptic.json does not exist in {split}; add the file or correct its name"]
    with pytest.raises(DataError, match=r"panoptic\.json: the file does not exist; add it, because"):
        read_label(record_of(split / "panoptic/a.png"), of(manifest))


def test_one_json_is_read_once_by_many_threads_and_again_when_it_changes(
    split: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), original(path))[1])
    of_all = of(manifest)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: read_label(record_of(split / "panoptic/a.png"), of_all), range(40)))
    assert {label.tobytes() for label in found} == {found[0].tobytes()}
    assert read == [split / "panoptic.json"]
    write_json(split / "panoptic.json", annotation("a.png", [(number, 20) for number, _ in SEGMENTS]))
    assert read_label(record_of(split / "panoptic/a.png"), of_all).tolist() == [[1, 1, 1, 255]] * 2


@pytest.mark.parametrize("trust_mtime", [False, True])
def test_the_categories_are_part_of_the_key_of_the_records(split: Path, manifest: Manifest, trust_mtime: bool) -> None:
    records = list_records(of(manifest), split.parent, "train")
    assert {record.companion for record in records} == {split / "panoptic.json"}
    before = records_key(records, trust_mtime=trust_mtime)
    assert records_key(records, trust_mtime=trust_mtime) == before
    write_json(split / "panoptic.json", annotation("a.png", SEGMENTS), annotation("b.png", [(300, 10)]), {})
    assert records_key(records, trust_mtime=trust_mtime) != before
