import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from seg_transfer.data.audit import audit
from seg_transfer.data.images import read_label, read_pair
from seg_transfer.data.inspection.containers import labelme_classes
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import list_records
from seg_transfer.errors import DataError

Manifest = Callable[..., DatasetManifest]
SIZE = (8, 10)
LABELS = {"encoding": "labelme", "names": {"road": 1, "car": 2, "van": 2}, "background": 0, "ignore": ["ego"]}


def shape(label: object, points: object, kind: object = "polygon") -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def write(root: Path, *shapes: object, **fields: object) -> Path:
    """Write mini/a.png and mini/a.json, as LabelMe does in one folder."""
    (root / "mini").mkdir(exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 9, np.uint8)).save(root / "mini/a.png")
    content = {
        "version": "5.4.1",
        "shapes": shapes,
        "imagePath": "a.png",
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }
    file = root / "mini/a.json"
    file.write_text(json.dumps(content | fields), encoding="utf-8")
    return file


@pytest.fixture
def labelme(manifest: Manifest) -> Manifest:
    def make(**labels: Any) -> DatasetManifest:
        files = {"images": "*.png", "labels": "*.json"}
        return manifest(labels=LABELS | labels, train=files, eval=files)

    return make


def label_of(root: Path, manifest: DatasetManifest) -> Any:
    (record,) = list_records(manifest, root, "train")
    return read_label(record, manifest)


def box(top: int, left: int, bottom: int, right: int) -> Any:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("shift", [0, 0.5, 0.99])
def test_a_vertex_stands_for_the_pixel_that_it_lies_in(tmp_path: Path, labelme: Manifest, shift: float) -> None:
    corners = [(2, 1), (6, 1), (6, 4), (2, 4)]
    write(tmp_path, shape("car", [[x + shift, y + shift] for x, y in corners]))
    label = label_of(tmp_path, labelme())
    assert label.dtype == np.uint8
    # The pixels on the outline belong to the shape: columns 2 to 6, rows 1 to 4.
    assert (label == 2).tolist() == box(1, 2, 5, 7).tolist()
    assert (label == 0).sum() == 80 - 20


def test_a_triangle_holds_the_pixels_on_its_diagonal(tmp_path: Path, labelme: Manifest) -> None:
    write(tmp_path, shape("road", [[0, 0], [7, 7], [0, 7]]))
    assert (label_of(tmp_path, labelme()) == 1).tolist() == np.tri(8, 10, dtype=bool).tolist()


@pytest.mark.parametrize("corners", [[[2, 1], [6, 4]], [[6.5, 4], [2, 1.5]], [[2, 4], [6, 1]]])
def test_a_rectangle_has_two_opposite_corners(tmp_path: Path, labelme: Manifest, corners: list[list[float]]) -> None:
    write(tmp_path, shape("road", corners, "rectangle"))
    assert (label_of(tmp_path, labelme()) == 1).tolist() == box(1, 2, 5, 7).tolist()


def test_a_circle_has_a_center_and_a_point_on_it(tmp_path: Path, labelme: Manifest) -> None:
    write(tmp_path, shape("road", [[4.5, 4.5], [4.5, 2.4]], "circle"))
    ring = [
        "..........",
        "..........",
        "...###....",
        "..#####...",
        "..#####...",
        "..#####...",
        "...###....",
        "..........",
    ]
    found = ["".join(".#"[int(pixel)] for pixel in row) for row in label_of(tmp_path, labelme())]
    assert found == ring


def test_later_shapes_lie_on_top(tmp_path: Path, labelme: Manifest) -> None:
    small, large = shape("car", [[2, 2], [3, 3]], "rectangle"), shape("road", [[0, 0], [9, 7]], "rectangle")
    write(tmp_path, large, small)
    assert (label_of(tmp_path, labelme()) == 2).tolist() == box(2, 2, 4, 4).tolist()
    write(tmp_path, small, large)
    assert (label_of(tmp_path, labelme()) == 1).all()


def test_shapes_that_leave_the_image_are_cut(tmp_path: Path, labelme: Manifest) -> None:
    write(tmp_path, shape("road", [[-0.5, -3], [4, -3], [4, 20], [-0.5, 20]]))
    assert (label_of(tmp_path, labelme()) == 1).tolist() == box(0, 0, 8, 5).tolist()


def test_names_may_share_a_class_and_background_and_names_may_be_ignored(tmp_path: Path, labelme: Manifest) -> None:
    shapes = [shape(name, [[x, 0], [x, 7]], "rectangle") for x, name in enumerate(("car", "van", "ego"))]
    write(tmp_path, *shapes)
    assert label_of(tmp_path, labelme())[0].tolist() == [2, 2, 255, 0, 0, 0, 0, 0, 0, 0]
    assert label_of(tmp_path, labelme(background="ignore"))[5].tolist() == [2, 2] + [255] * 8


def test_a_name_that_is_not_in_the_manifest_is_an_error_or_ignored(tmp_path: Path, labelme: Manifest) -> None:
    write(tmp_path, shape("road", [[0, 0], [9, 7]], "rectangle"), shape("tree", [[0, 0], [1, 1]], "rectangle"))
    with pytest.raises(
        DataError, match=r"a\.json, shape 1: its label 'tree' is not in the manifest; list it in labels"
    ):
        label_of(tmp_path, labelme())
    label = label_of(tmp_path, labelme(unlisted="ignore"))
    assert (label == 255).tolist() == box(0, 0, 2, 2).tolist()
    assert (label == 1).sum() == 76


DAMAGED = {
    "no label": (shape(None, [[0, 0], [4, 4]], "rectangle"), "its label is None, not the name of a class"),
    "a number": (shape(3, [[0, 0], [4, 4]], "rectangle"), "its label is 3"),
    "two points": (shape("car", [[0, 0], [4, 4]]), "a polygon of 2 points is not supported: draw"),
    "a line": (shape("car", [[0, 0], [4, 4]], "line"), "a line of 2 points is not supported"),
    "a mask": (shape("car", [[0, 0], [4, 4]], "mask"), "a mask of 2 points is not supported"),
    "three on a circle": (shape("car", [[0, 0], [4, 4], [5, 5]], "circle"), "a circle of 3 points"),
    "no points": (shape("car", []), "its points are not a list of 1 to 10000 points"),
    "null": (shape("car", None), "its points are not a list"),
    "many points": (shape("car", [[0, 0]] * 10_001), "its points are not a list of 1 to 10000 points"),
    "text": (shape("car", [["0", "0"], [1, 1], [2, 2]]), r"its point \['0', '0'\] is not \[x, y\]"),
    "booleans": (shape("car", [[True, 0], [1, 1], [2, 2]]), r"its point \[True, 0\] is not"),
    "three numbers": (shape("car", [[0, 0, 0], [1, 1], [2, 2]]), r"is not \[x, y\]"),
    "nan": (shape("car", [[math.nan, 0], [1, 1], [2, 2]]), "leaves the image"),
    "infinity": (shape("car", [[1, 1], [0, -math.inf], [2, 2]]), "leaves the image"),
    "huge": (shape("car", [[10**400, 0], [1, 1], [2, 2]]), "leaves the image of 8 x 10"),
    "far away": (shape("car", [[0, 1e9], [1, 1], [2, 2]]), "leaves the image of 8 x 10"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_shape_is_named(tmp_path: Path, labelme: Manifest, kind: str) -> None:
    wrong, reason = DAMAGED[kind]
    write(tmp_path, shape("road", [[0, 0], [4, 4]], "rectangle"), wrong)
    with pytest.raises(DataError, match=rf"a\.json, shape 1: .*{reason}.*; correct or remove the shape") as caught:
        label_of(tmp_path, labelme())
    assert len(str(caught.value).splitlines()) == 1
    assert audit(labelme(), tmp_path).problems[1:] == (str(caught.value),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "not an annotation of LabelMe .it has no list 'shapes'"),
        ('{"shapes": {}}', "not an annotation of LabelMe"),
        ('{"shapes": [3]}', "not an annotation of LabelMe"),
        ('{"shapes": []}', "imageHeight None and imageWidth None are not sizes"),
    ],
)
def test_a_file_that_is_not_of_labelme_is_named(tmp_path: Path, labelme: Manifest, text: str, reason: str) -> None:
    write(tmp_path).write_text(text)
    with pytest.raises(DataError, match=rf"a\.json: {reason}"):
        label_of(tmp_path, labelme())


@pytest.mark.parametrize(("height", "width"), [(8, 9), (80, 100)])
def test_sizes_must_agree(tmp_path: Path, labelme: Manifest, height: int, width: int) -> None:
    write(tmp_path, imageHeight=height, imageWidth=width)
    with pytest.raises(DataError, match=rf"a\.json: {height} x {width} .*, but its image .*a\.png is 8 x 10"):
        label_of(tmp_path, labelme())


def test_exchanged_sides_are_found_when_the_pair_is_read(tmp_path: Path, labelme: Manifest) -> None:
    write(tmp_path, imageHeight=10, imageWidth=8)
    (record,) = list_records(labelme(), tmp_path, "train")
    with pytest.raises(DataError, match=r"a\.json: 10 x 8 \(height x width\), but its image .*a\.png is 8 x 10"):
        read_pair(record, labelme())


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"names": {"road": 3}}, "labels.names 'road' is class index 3, but the 3 classes have indices 0 to 2"),
        ({"background": 3}, "labels.background is class index 3"),
        ({"background": -1}, "labels.background is class index -1"),
        ({"background": "sky"}, "background"),
        ({"names": {}}, "names"),
        ({"ignore": ["road"]}, "labels.names with labels.ignore holds 'road' more than once"),
    ],
)
def test_fields_are_checked(labelme: Manifest, labels: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        labelme(**labels)


def test_the_manifest_must_state_what_pixels_without_a_shape_are(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match=r"labels\.labelme\.background"):
        manifest(labels={name: value for name, value in LABELS.items() if name != "background"})


def test_the_labels_of_all_files_are_listed(tmp_path: Path) -> None:
    files = []
    for folder, names in (("x", ["road", "car"]), ("y", ["tree", "road"])):
        (tmp_path / folder).mkdir()
        files.append(write(tmp_path / folder, *(shape(name, [[0, 0], [1, 1]], "rectangle") for name in names)))
    assert labelme_classes(files) == ("car", "road", "tree")
    write(tmp_path / "x", shape("", []))
    with pytest.raises(DataError, match=r"a\.json, shape 0: its label is ''; name a class"):
        labelme_classes(files)
