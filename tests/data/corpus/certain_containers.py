"""Folders that are certain: COCO JSON, LabelMe JSON, Parquet."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from data.corpus.cases import Certain, Given, Truth, certain
from data.corpus.files import write_image
from data.corpus.scenes import Array, Scene, colors
from PIL import Image

# Upper left and lower right corner, exclusive: rectangles whose pixels no rule of rasterization can dispute, because
# their edges lie between pixels.
Box = tuple[int, int, int, int]
BOXES: dict[str, list[tuple[int, Box]]] = {
    "a": [(7, (2, 3, 20, 9)), (9, (24, 12, 40, 28))],
    "b": [(9, (5, 14, 30, 22))],
    "c": [(7, (1, 1, 12, 25)), (9, (6, 4, 10, 9))],
}
HEIGHT, WIDTH = 30, 44
CLASSES = ("background", "car", "person")


def _truth(boxes: dict[str, list[tuple[int, Box]]] = BOXES, values: tuple[int, ...] | None = (0, 7, 9)) -> Truth:
    read = {}
    for seed, (name, placed) in enumerate(boxes.items()):
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        for category, (left, top, right, bottom) in placed:
            label[top:bottom, left:right] = (0, 7, 9).index(category)
        read[f"images/{name}"] = Scene(colors(HEIGHT, WIDTH, seed), label)
    return Truth(CLASSES, values, read)


def _write_images(here: Path) -> None:
    for name, each in _truth().scenes.items():
        write_image(here / f"{name}.png", each.image)


def _corners(box: Box, inset: float = 0) -> list[tuple[float, float]]:
    left, top, right, bottom = np.add(box, (inset, inset, -inset, -inset)).tolist()
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _polygon(box: Box) -> list[list[float]]:
    return [[coordinate for corner in _corners(box) for coordinate in corner]]


def _run_lengths(box: Box) -> dict[str, Any]:
    """COCO's uncompressed run lengths go down the columns and begin with the number of zeros."""
    left, top, right, bottom = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": [0, *counts] if flat[0] else counts}


def _compressed(box: Box) -> dict[str, Any]:
    from pycocotools import mask

    runs = _run_lengths(box)
    packed = mask.frPyObjects(runs, HEIGHT, WIDTH)
    return {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}


def _coco(here: Path, segmentation: Any, prefix: str = "") -> Certain:
    _write_images(here)
    images = [
        {"id": 10 * number, "file_name": f"{prefix}{name}.png", "height": HEIGHT, "width": WIDTH}
        for number, name in enumerate(BOXES)
    ]
    annotations = []
    for number, placed in enumerate(BOXES.values()):
        for category, box in placed:
            area = (box[2] - box[0]) * (box[3] - box[1])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 * number,
                    "category_id": category,
                    "segmentation": segmentation(box),
                    "area": area,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 7, "name": "car", "supercategory": "vehicle"}, {"id": 9, "name": "person"}]
    file = here / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return Certain(Given(here / "images", file), _truth())


def coco_polygons(here: Path) -> Certain:
    return _coco(here, _polygon)


def coco_run_lengths(here: Path) -> Certain:
    return _coco(here, _run_lengths)


def coco_compressed_run_lengths(here: Path) -> Certain:
    return _coco(here, _compressed)


def coco_names_with_folders(here: Path) -> Certain:
    """File names as relative paths of another machine's tree: the base name is unique."""
    return _coco(here, _polygon, "train2017/")


def coco_ignored_background(here: Path) -> Certain:
    made = _coco(here, _polygon)
    return _without(made, 0)


def coco_ignored_category(here: Path) -> Certain:
    made = _coco(here, _polygon)
    return _without(made, 1)


def _without(made: Certain, index: int) -> Certain:
    """The same folder with a class ignored."""
    lookup = np.insert(np.arange(2, dtype=np.uint8), index, 255)
    scenes = {key: Scene(each.image, lookup[each.label]) for key, each in made.truth.scenes.items()}
    values = made.truth.values or ()
    kept = [position for position in range(3) if position != index]
    truth = Truth(tuple(CLASSES[position] for position in kept), tuple(values[position] for position in kept), scenes)
    return Certain(Given(made.given.images, made.given.labels, answers={"ignore": str(values[index])}), truth)


def labelme_polygons(here: Path) -> Certain:
    """The vertices lie in the middle of the corner pixels, which belong to the shape."""
    _write_images(here)
    names = {7: "car", 9: "person"}
    for name, placed in BOXES.items():
        shapes = [
            {
                "label": names[category],
                "points": _corners(box, 0.5),
                "shape_type": "polygon",
                "group_id": None,
                "flags": {},
            }
            for category, box in placed
        ]
        fields = {"version": "5.2.1", "flags": {}, "shapes": shapes, "imagePath": f"../images/{name}.png"}
        file = here / "labels" / f"{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**fields, "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}))
    return Certain(Given(here / "images", here / "labels"), _truth(values=None))


def png(pixels: Array) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def _parquet(here: Path, column: Any, folders: bool, names: tuple[str, str] = ("image", "label")) -> Certain:
    made = certain(here / "plain")
    rows = [(png(each.image), png(each.label)) for each in made.truth.scenes.values()]
    table = pa.table({name: column([row[number] for row in rows]) for number, name in enumerate(names)})
    file = here / "data" / "train-00000.parquet"
    file.parent.mkdir()
    pq.write_table(table, file, row_group_size=2)
    read = {f"data/train-00000/{row}": each for row, each in enumerate(made.truth.scenes.values())}
    given = file.parent if folders else file
    return Certain(Given(given, given), Truth(made.truth.classes, made.truth.values, read))


def cells(contents: list[bytes]) -> Any:
    """Cells as dataset hubs write them."""
    return pa.array([{"bytes": content, "path": None} for content in contents])


def parquet_file_of_structs(here: Path) -> Certain:
    return _parquet(here, cells, folders=False)


def parquet_file_of_bytes(here: Path) -> Certain:
    return _parquet(here, pa.array, folders=False)


def parquet_folder(here: Path) -> Certain:
    return _parquet(here, cells, folders=True)


def parquet_with_other_names(here: Path) -> Certain:
    return _parquet(here, cells, folders=False, names=("pixel_values", "semantic_segmentation"))


def coco_that_does_not_fit_the_folder(here: Path) -> Certain:
    """One image is not described, and two descriptions have no image."""
    made = coco_polygons(here)
    write_image(here / "images" / "z.png", colors(HEIGHT, WIDTH, 9))
    content = json.loads(made.given.labels.read_text())
    content["images"] += [
        {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH} for number in (101, 102)
    ]
    made.given.labels.write_text(json.dumps(content))
    notes = (
        r"^1 image without a label map left out: .*images/z\.png$",
        r"^2 of 5 image names in instances\.json without an image left out, such as '101\.png'$",
    )
    return replace(made, truth=replace(made.truth, notes=notes, unlabeled=1))


def labelme_files_without_images_left_out(here: Path) -> Certain:
    made = labelme_polygons(here)
    shutil.copy(here / "labels" / "a.json", here / "labels" / "z.json")
    notes = (r"^1 label map without an image left out: .*labels/z\.json$",)
    given = replace(made.given, answers={"unpaired": "ignore"})
    return Certain(given, replace(made.truth, notes=notes))


def parquet_rows_without_label_maps(here: Path) -> Certain:
    def cells_but_one(contents: list[bytes]) -> Any:
        return pa.array([*contents, contents[0] if contents[0] == png(first.image) else None])

    first = next(iter(certain(here / "first").truth.scenes.values()))
    made = _parquet(here, cells_but_one, folders=False)
    notes = (r"^1 of 4 rows without an image or label map left out$",)
    return replace(made, truth=replace(made.truth, notes=notes))
