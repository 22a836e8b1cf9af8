import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.coco_files import SIZE, annotation, box, compress, content, rectangle, runs, write
from PIL import Image
from pydantic import ValidationError

from seg_transfer.data.audit import audit
from seg_transfer.data.coco_file import Runs, read_coco
from seg_transfer.data.encodings.coco import decompress, runs_of
from seg_transfer.data.images import read_label, read_pair
from seg_transfer.data.inspection.containers import coco_classes
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import list_records
from seg_transfer.errors import ConfigError, DataError

Manifest = Callable[..., DatasetManifest]
LABELS = {"encoding": "coco", "map": {0: 0, 3: 1, 7: 2}}
HEIGHT, WIDTH = SIZE


@pytest.fixture
def coco(manifest: Manifest) -> Manifest:
    def make(labels: dict[str, Any] = LABELS, **split: Any) -> DatasetManifest:
        files = {"images": "images/**/*.png", "labels": "*.json"} | split
        return manifest(labels=labels, train=files, eval=files)

    return make


def label_of(root: Path, manifest: DatasetManifest) -> Any:
    (record,) = list_records(manifest, root, "train")
    return read_label(record, manifest)


def test_polygons_cover_the_pixels_between_their_edges(tmp_path: Path, coco: Manifest) -> None:
    triangle = [[0, 0, 8, 8, 0, 8]]
    write(tmp_path, content(annotation(3, triangle), annotation(7, rectangle(1, 8, 3, 10), id=6)))
    label = label_of(tmp_path, coco())
    assert label.dtype == np.uint8
    assert (label == 2).tolist() == box(1, 8, 3, 10).tolist()
    # Below the diagonal; pixels on it are half covered.
    below = np.tri(8, 10, -1, dtype=bool)
    assert (label[below] == 1).all()
    assert (label[np.triu(np.ones((8, 10), bool), 1) & (label != 2)] == 0).all()


def test_the_polygons_of_one_object_are_united(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(annotation(7, rectangle(0, 0, 2, 3) + rectangle(4, 5, 8, 6))))
    assert (label_of(tmp_path, coco()) == 2).tolist() == (box(0, 0, 2, 3) | box(4, 5, 8, 6)).tolist()


@pytest.mark.parametrize("packed", [True, False])
def test_runs_give_the_same_mask_in_both_forms(tmp_path: Path, coco: Manifest, packed: bool) -> None:
    mask = box(0, 0, 3, 2) | box(5, 4, 6, 10)
    counts = runs(mask)
    assert counts[:4] == [0, 3, 5, 3]
    segmentation = {"size": [*SIZE], "counts": compress(counts) if packed else counts}
    write(tmp_path, content(annotation(3, segmentation)))
    assert (label_of(tmp_path, coco()) == 1).tolist() == mask.tolist()


def test_text_of_counts_is_read_as_by_the_library() -> None:
    from pycocotools import mask as library

    generator = np.random.default_rng(0)
    for share in (0.02, 0.5, 0.98):
        mask = generator.random((53, 61)) < share
        text = library.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
        assert text.decode() == compress(runs(mask))
        assert decompress(text).tolist() == runs(mask)
        assert runs_of(Runs([53, 61], text), 53, 61).tolist() == runs(mask)
    large = [5_000_000, 1, 900_000, 77, 2, 40_000_000]
    assert decompress(compress(large).encode()).tolist() == large


@pytest.mark.parametrize("text", [b"", b"0p", b"0P", b"/", b"\x00", b"oooooooo0", bytes(range(200))])
def test_damaged_text_of_counts_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="the text of its counts is damaged"):
        decompress(text)


def test_the_smaller_object_lies_on_top_and_of_equals_the_later(tmp_path: Path, coco: Manifest) -> None:
    small, large = rectangle(2, 2, 4, 4), rectangle(0, 0, 8, 8)
    for first, second in ((annotation(7, small), annotation(3, large)), (annotation(3, large), annotation(7, small))):
        write(tmp_path, content(first, second))
        label = label_of(tmp_path, coco())
        assert (label == 2).tolist() == box(2, 2, 4, 4).tolist()
        assert (label == 1).sum() == 60
    write(tmp_path, content(annotation(7, small), annotation(3, small)))
    assert (label_of(tmp_path, coco()) == 1).sum() == 4


def test_crowds_are_ignored_but_smaller_objects_in_them_count(tmp_path: Path, coco: Manifest) -> None:
    crowd = annotation(7, {"size": [*SIZE], "counts": runs(box(0, 0, 8, 5))}, iscrowd=1)
    write(tmp_path, content(annotation(3, rectangle(1, 1, 2, 3)), crowd))
    label = label_of(tmp_path, coco())
    assert (label == 255).sum() == 38
    assert (label == 1).tolist() == box(1, 1, 2, 3).tolist()
    assert (label[:, 5:] == 0).all()


def test_pixels_without_an_object_are_a_class_or_ignored(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content())
    assert (label_of(tmp_path, coco()) == 0).all()
    ignored = {"encoding": "coco", "map": {3: 0, 7: 1}, "ignore": [0]}
    assert (label_of(tmp_path, coco(ignored)) == 255).all()


def test_a_category_with_the_id_of_the_background_needs_another_background(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(annotation(0, rectangle(0, 0, 2, 2))))
    with pytest.raises(DataError, match=r"annotation 5: category_id 0 is also labels\.background; set that to an unus"):
        label_of(tmp_path, coco())
    label = label_of(tmp_path, coco({"encoding": "coco", "map": {0: 1, 65535: 0}, "background": 65535}))
    assert (label == 1).tolist() == box(0, 0, 2, 2).tolist()
    with pytest.raises(ValidationError, match="background 9 is neither a class nor ignored"):
        coco(LABELS | {"background": 9})
    assert "background" not in coco().model_dump()["labels"]


def test_a_category_without_a_class_is_named(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(annotation(9, rectangle(2, 1, 8, 8))))
    with pytest.raises(DataError, match=r"labels\.json, image images/a: category 9 at row 2, column 1 is not in"):
        label_of(tmp_path, coco())
    assert (label_of(tmp_path, coco(LABELS | {"unlisted": "ignore"})) == 255).sum() == 42
    with pytest.raises(
        ValidationError, match=r"labels\.unlisted is nearest, but numbers of categories have no distance"
    ):
        coco(LABELS | {"unlisted": "nearest"})


NAN, INFINITY = float("nan"), float("inf")
DAMAGED = {
    "odd": ([[0, 0, 4, 0, 4]], "its polygon has 5 coordinates"),
    "a line": ([[0, 0, 4, 4]], "its polygon has 4 coordinates"),
    "nan": ([[0, 0, NAN, 4, 4, 4]], "leaves the image"),
    "infinity": ([[0, 0, INFINITY, 4, 4, 4]], "leaves the image"),
    "far away": ([[0, 0, 1e9, 0, 4, 4]], "leaves the image of 8 x 10 pixels by more than its size"),
    "huge": ([[0, 0, 10**30, 0, 4, 4]], "not a list of numbers"),
    "text": ([["0", "0", "4", "0", "4", "4"]], "not a list of numbers"),
    "nested": ([[[0, 0], [4, 0], [4, 4]]], "not a list of numbers"),
    "booleans": ([[True, False, True, True, False, True]], "not a list of numbers"),
    "none": ([], "it has no segmentation"),
    "null": (None, "it has no segmentation"),
    "no counts": ({"size": [8, 10]}, "its segmentation has no counts"),
    "size": ({"size": [10, 8], "counts": [80]}, "mask has size .10, 8., but the image is 8 x 10"),
    "short": ({"size": [8, 10], "counts": [70]}, "not whole numbers that add up to 8 x 10"),
    "long": ({"size": [8, 10], "counts": [10**9, 4]}, "not whole numbers that add up"),
    "negative": ({"size": [8, 10], "counts": [90, -10]}, "not whole numbers that add up"),
    "fractions": ({"size": [8, 10], "counts": [40.5, 39.5]}, "not whole numbers that add up"),
    "overlong text": ({"size": [8, 10], "counts": compress([10, 3000])}, "not whole numbers that add up"),
    "unicode": ({"size": [8, 10], "counts": "\ud800é"}, "text of its counts is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_annotation_is_named(tmp_path: Path, coco: Manifest, kind: str) -> None:
    segmentation, reason = DAMAGED[kind]
    write(tmp_path, content(annotation(3, rectangle(0, 0, 1, 1), id=4), annotation(3, segmentation)))
    with pytest.raises(DataError, match=rf"labels\.json, image images/a, annotation 5: .*{reason}.*") as caught:
        label_of(tmp_path, coco())
    assert len(str(caught.value).splitlines()) == 1
    leak, damaged = audit(coco(), tmp_path).problems
    assert "also in eval" in leak
    assert damaged == str(caught.value)


def test_an_outline_that_would_exhaust_the_memory_is_refused() -> None:
    zigzag = np.tile([0.0, 0.0, 4000.0, 4000.0], 3000)
    with pytest.raises(ValueError, match="its polygon is longer than 10000000 pixels"):
        runs_of((zigzag,), 4000, 4000)


def test_tiles_of_a_scene_are_parts_of_its_label_map(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(annotation(3, rectangle(1, 2, 7, 9)), annotation(7, rectangle(3, 3, 5, 6))))
    whole = label_of(tmp_path, coco())
    tiled = DatasetManifest.model_validate(coco().model_dump() | {"tiles": {"above": 20, "size": 5}})
    records = list_records(tiled, tmp_path, "train")
    assert [record.image_id.partition("@")[2] for record in records] == ["0_0", "0_5", "3_0", "3_5"]
    for record, (top, left) in zip(records, [(0, 0), (0, 5), (3, 0), (3, 5)], strict=True):
        assert read_pair(record, tiled)[1].tolist() == whole[top : top + 5, left : left + 5].tolist()


@pytest.mark.parametrize("category", ["3", None, -4, 70_000, True, 3.0])
def test_a_category_must_be_a_number(tmp_path: Path, coco: Manifest, category: object) -> None:
    write(tmp_path, content(annotation(category, rectangle(0, 0, 2, 2))))
    with pytest.raises(DataError, match=r"annotation 5: category_id is .*, but must be 0 to 65535"):
        label_of(tmp_path, coco())


@pytest.mark.parametrize(("height", "width"), [(8, 9), (80, 100), (None, 10), ("8", 10), (0, 10), (8, True)])
def test_sizes_must_agree(tmp_path: Path, coco: Manifest, height: object, width: object) -> None:
    write(tmp_path, content(images=[{"id": 1, "file_name": "a.png", "height": height, "width": width}]))
    with pytest.raises(DataError, match=r"labels\.json, image images/a: (.* but the image is 8 x 10|.* are not sizes)"):
        label_of(tmp_path, coco())


def test_exchanged_sides_are_found_when_the_pair_is_read(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, content(images=[{"id": 1, "file_name": "a.png", "height": 10, "width": 8}]))
    (record,) = list_records(coco(), tmp_path, "train")
    with pytest.raises(DataError, match=r"image images/a: 10 x 8 \(height x width\), but its image .*a\.png is 8 x 10"):
        read_pair(record, coco())


WHOLE = content(annotation(3, rectangle(0, 0, 2, 2)))
BROKEN = {
    "no JSON": ("{", "Expecting property name"),
    "a list": ("[]", "it holds a list"),
    "deep": ("[" * 100_000, "recursion"),
    "no images": (json.dumps(WHOLE | {"images": 3}), "it has no list 'images'"),
    "no annotations": (json.dumps({"images": [], "categories": []}), "it has no list 'annotations'"),
    "captions": (json.dumps(WHOLE | {"annotations": [{"id": 1, "caption": "x"}]}), "an annotation without category_id"),
    "panoptic": (
        json.dumps(WHOLE | {"annotations": [{"segments_info": [], "file_name": "a"}]}),
        "encoding is panoptic",
    ),
    "unknown image": (json.dumps(content(annotation(3, [], image_id="1"))), "annotation 5 has image_id '1', not in im"),
    "no image id": (
        json.dumps(WHOLE | {"images": [{"file_name": "a.png"}]}),
        "image id None is neither a number nor text",
    ),
    "list as id": (
        json.dumps(WHOLE | {"images": [{"file_name": "a.png", "id": [1]}]}),
        "image id .1. is neither a number",
    ),
    "an id twice": (json.dumps(WHOLE | {"images": WHOLE["images"] * 2}), "image id 1 .*occurs twice"),
    "a category twice": (
        json.dumps(WHOLE | {"categories": WHOLE["categories"] * 2}),
        "category 3, 'road'.* occurs twi",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_one_problem(tmp_path: Path, coco: Manifest, kind: str) -> None:
    text, reason = BROKEN[kind]
    file = write(tmp_path, WHOLE)
    file.write_text(text)
    with pytest.raises(DataError, match=rf"labels\.json: not a JSON file of COCO instances \(.*{reason}") as caught:
        list_records(coco(), tmp_path, "train")
    assert len(str(caught.value).splitlines()) == 1


def test_polygons_without_the_library_name_what_to_install(tmp_path: Path, coco: Manifest, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    write(tmp_path, content(annotation(3, {"size": [*SIZE], "counts": runs(box(0, 0, 1, 2))})))
    assert (label_of(tmp_path, coco()) == 1).sum() == 2
    write(tmp_path, WHOLE)
    with pytest.raises(ConfigError, match=r"pip install 'seg_transfer\[formats\]'"):
        label_of(tmp_path, coco())


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    file = write(tmp_path, WHOLE)
    assert read_coco(file) is read_coco(file)
    write(tmp_path, content(annotation(3, rectangle(0, 0, 2, 2)), annotation(3, rectangle(0, 0, 3, 2))))
    assert len(read_coco(file).annotations[1]) == 2


def test_categories_are_sorted_by_id(tmp_path: Path) -> None:
    whole = content() | {"categories": [{"id": 7, "name": "car"}, {"id": 3, "name": "road"}]}
    assert list(coco_classes(write(tmp_path, whole)).items()) == [(3, "road"), (7, "car")]


def test_the_dimensions_of_the_image_file_are_those_of_the_orientation_it_has(tmp_path: Path, coco: Manifest) -> None:
    write(tmp_path, WHOLE, ())
    file = tmp_path / "mini/images/a.png"
    file.parent.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(file)
    assert label_of(tmp_path, coco()).shape == (HEIGHT, WIDTH)
