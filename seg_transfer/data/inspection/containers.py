"""Looks into files that hold many images or label maps: classes of annotations, columns of tables."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_transfer.data.cells import can_hold_images, first_cell, open_table
from seg_transfer.data.coco_file import read_coco
from seg_transfer.data.containers import find_entries
from seg_transfer.data.decoding import open_image
from seg_transfer.data.encodings import CocoLabels
from seg_transfer.data.encodings.labelme import read_labelme
from seg_transfer.data.inspection.wording import counted
from seg_transfer.errors import DataError

# Words in the names of columns. A table with two columns of masks, such as classes and instances, needs a decision.
_MASK_WORDS = frozenset(
    ("annotation", "annotations", "gt", "label", "labels", "mask", "masks", "seg", "segmentation", "semantic", "target")
)
# Label maps are drawn in 16 bits.
_MAX_ID = 65535
_IMAGE_WORDS = frozenset(("image", "images", "img", "photo", "rgb"))


@dataclass(frozen=True)
class ImageColumns:
    """The columns of a table that hold images.

    Attributes:
        found: All of them, in the order of the table.
        image: The column of the images; None if the names leave it open.
        label: The column of the label maps; None if the names leave it open.
        candidates: Pairs (image, label) that are possible.
        class_names: Column -> the names that the metadata of a dataset hub give its numbers. Such a column may describe
            whole images and not pixels.
    """

    found: tuple[str, ...]
    image: str | None
    label: str | None
    candidates: tuple[tuple[str, str], ...]
    class_names: Mapping[str, tuple[str, ...]]


def coco_classes(file: Path) -> dict[int, str]:
    """Return the names of the categories in a file of COCO instances, by id.

    Raises:
        DataError: The file is damaged, an id is no value of a label map, or a name is empty or occurs twice.
    """
    names = dict(sorted(read_coco(file).categories.items()))
    id_of: dict[str, int] = {}
    for number, name in names.items():
        if not 0 <= number <= _MAX_ID:
            raise DataError(f"{file}: category {number} ({name!r:.80}): ids must be 0 to {_MAX_ID}; renumber it")
        if not name.strip():
            raise DataError(f"{file}: category {number} has no name; name it")
        if name in id_of:
            raise DataError(
                f"{file}: categories {id_of[name]} and {number} are both named {name!r:.80}; rename one, or remove it "
                "and use the other for its annotations"
            )
        id_of[name] = number
    return names


def entries_without(root: Path, images: Sequence[str], file: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Find the images that a file of COCO instances does not describe, and count its entries without an image.

    Args:
        root: Folder of the dataset.
        images: Images, relative to the root.
        file: The file, relative to the root.

    Returns:
        The images, and a line about the entries if there are some; nothing if the file is damaged, because whoever
        reads it says so.
    """
    try:
        names = CocoLabels(encoding="coco").entries(root / file)
    except DataError:
        return (), ()
    found, _, _ = find_entries(root, images, [file], lambda _: names)
    used = {position for _, position in found.values()}
    alone = [name for position, name in enumerate(names) if position not in used]
    unlabeled = tuple(image for image in images if image not in found)
    return unlabeled, tuple(
        f"{len(alone)} of {counted(len(names), 'image name')} in {Path(file).name} without an image left out, such as "
        f"{name!r:.80}"
        for name in alone[:1]
    )


def rows_left_out(tables: Iterable[Path], n_used: int) -> tuple[str, ...]:
    """Return a line about the rows of tables that are not used, if there are some.

    Args:
        tables: The Parquet files.
        n_used: Number of rows that have an image and a label map.
    """
    n_rows = 0
    for table in tables:
        with open_table(table) as opened:
            n_rows += opened.metadata.num_rows
    if n_rows == n_used:
        return ()
    return (f"{n_rows - n_used} of {counted(n_rows, 'row')} without an image or label map left out",)


def is_coco(file: Path) -> bool:
    """Whether a file holds COCO's instances."""
    try:
        return bool(read_coco(file).images)
    except DataError:
        return False


def is_labelme(file: Path) -> bool:
    """Whether a file holds LabelMe's annotations of an image."""
    try:
        return "shapes" in read_labelme(file)
    except DataError:
        return False


def labelme_classes(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the labels of the shapes in LabelMe's files, sorted.

    Raises:
        DataError: A file is damaged, or the label of a shape is not text.
    """
    labels: set[str] = set()
    for file in files:
        for number, shape in enumerate(read_labelme(file)["shapes"]):
            label = shape.get("label")
            if not isinstance(label, str) or not label:
                raise DataError(
                    f"{file}, shape {number}: its label is {label!r:.80}; name a class, or remove the shape"
                )
            labels.add(label)
    return tuple(sorted(labels))


def image_columns(file: Path) -> ImageColumns:
    """Find the columns of a Parquet file that hold images, and tell label maps from images by their names.

    The metadata of a dataset hub say which columns hold images; without them, the first cell of a column decides.

    Args:
        file: The Parquet file.

    Returns:
        The columns; `candidates` has several pairs if names do not tell which one holds the label maps.

    Raises:
        DataError: The file cannot be read.
    """
    with open_table(file) as table:
        schema = table.schema_arrow
    features = _features(schema.metadata or {})
    possible = [name for name in schema.names if can_hold_images(schema.field(name).type)]
    found = tuple(name for name in possible if _holds_images(file, name, features.get(name)))
    pairs = _candidates(found)
    is_clear = len(pairs) == 1 and _words(pairs[0][1]) & _MASK_WORDS
    image, label = pairs[0] if is_clear else (None, None)
    names = {name: classes for name, feature in features.items() if (classes := _class_names(feature))}
    return ImageColumns(found, image, label, pairs, names)


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return the features in the metadata of a dataset hub; {} if there are none."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _holds_images(file: Path, column: str, feature: object) -> bool:
    if isinstance(feature, dict):
        return feature.get("_type") == "Image"
    cell = first_cell(file, column)
    if cell is None:
        return False
    try:
        with open_image(cell):
            return True
    except DataError:
        return False


def _candidates(columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the pairs (image, label) that names allow."""
    masks = [name for name in columns if _words(name) & _MASK_WORDS] or list(columns)
    others = [name for name in columns if name not in masks] or list(columns)
    images = [name for name in others if _words(name) & _IMAGE_WORDS] or others
    return tuple((image, mask) for image in images for mask in masks if image != mask)


def _words(name: str) -> frozenset[str]:
    """Split a name into words: ``semanticMask`` and ``semantic_mask`` have the same."""
    return frozenset(re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).lower()))


def _class_names(feature: object) -> tuple[str, ...]:
    """Return the class names of a feature, or of the elements of a list feature; () if it has none."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
