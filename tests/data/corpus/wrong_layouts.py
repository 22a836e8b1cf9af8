"""Folders of which only people know which files they mean: the whole line that says so, as an expression."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data.corpus.cases import Given, Wrong, certain
from data.corpus.certain_containers import coco_polygons, parquet_file_of_structs
from data.corpus.files import gray8, write_image
from data.corpus.scenes import scenes

SEVERAL = ".*has several label maps, .*{} and .*{}; move the ones you mean into a folder of their own.*--labels.*"


def label_maps_of_two_kinds_beside_images(here: Path) -> Wrong:
    for name, each in scenes().items():
        write_image(here / f"{name}.png", each.image)
        gray8(here / f"{name}_parts.png", each.label % 2)
        gray8(here / f"{name}_seg.png", each.label)
    return Wrong(Given(here, here), SEVERAL.format(r"a_parts\.png", r"a_seg\.png"))


def label_maps_of_two_kinds_in_parallel_folders(here: Path) -> Wrong:
    for name, each in scenes().items():
        write_image(here / "images" / f"{name}.png", each.image)
        gray8(here / "labels" / f"{name}.png", each.label)
        gray8(here / "parts" / f"{name}.png", each.label % 2)
    line = (
        r".*has several label maps, .*labels/a\.png and .*parts/a\.png; name the folder of the ones .* by --labels, .*"
    )
    return Wrong(Given(here, here), line)


def label_maps_of_three_kinds_without_a_common_end(here: Path) -> Wrong:
    for name, each in scenes().items():
        for city in ("ulm", "bonn"):
            write_image(here / "left" / city / f"{city}_{name}_left.png", each.image)
            for kind in ("color", "instanceIds", "labelIds"):
                gray8(here / "fine" / city / f"{city}_{name}_fine_{kind}.png", each.label)
    return Wrong(Given(here / "left", here / "fine"), SEVERAL.format(r"bonn_a_fine_color\.png", r"bonn_a_fine_.*\.png"))


def channels_in_files_of_their_own(here: Path) -> Wrong:
    for name, each in scenes().items():
        for channel in range(3):
            gray8(here / "images" / f"{name}_000{channel}.png", each.image[..., channel])
        gray8(here / "labels" / f"{name}.png", each.label)
    line = r".*a\.png: has several images, .*a_0000\.png and .*a_0001\.png; move the ones you mean .*--images.*"
    return Wrong(Given(here / "images", here / "labels"), line)


def names_of_all_values_but_0(here: Path) -> Wrong:
    made = certain(here, names="car\nsky\n")
    line = r".*a\.png: value 2 has no name: the 2 lines of .*, state --first-id 1 --ignore 0 if they name 1 to 2, or .*"
    return Wrong(made.given, line)


def names_in_json(here: Path) -> Wrong:
    made = certain(here)
    file = here / "id2label.json"
    file.write_text('{"0": "road", "1": "car", "2": "sky"}')
    return Wrong(
        Given(made.given.images, made.given.labels, file), r".*id2label\.json: is JSON.*one class name per line.*", 3
    )


def masks_of_one_object_each(here: Path) -> Wrong:
    for name, each in scenes().items():
        write_image(here / "images" / f"{name}.png", each.image)
        for number in (1, 2):
            gray8(here / "labels" / f"{name}_{number}.png", np.where(each.label == number, 255, 0))
    return Wrong(Given(here / "images", here / "labels"), SEVERAL.format(r"a_1\.png", r"a_2\.png"))


def images_of_one_name_in_two_folders(here: Path) -> Wrong:
    for name, each in scenes().items():
        write_image(here / "images" / "test" / f"{name}.png", each.image)
        write_image(here / "images" / "train" / f"{name}.png", each.image)
        gray8(here / "labels" / f"{name}.png", each.label)
    line = r".*test/a\.png and .*train/a\.png: both have the name of .*labels/a\.png; keep one of them, .*--images"
    return Wrong(Given(here / "images", here / "labels"), line)


def an_image_in_two_formats(here: Path) -> Wrong:
    """One of them would be left out without a reason."""
    made = certain(here, answers={"unpaired": "ignore"})
    write_image(here / "images" / "b.bmp", scenes()["b"].image)
    return Wrong(made.given, r".*b\.bmp and .*b\.png: both have the name of .*labels/b\.png; keep one of them.*")


def label_maps_of_each_class_in_a_folder_of_its_own(here: Path) -> Wrong:
    for name, each in scenes().items():
        write_image(here / "images" / f"{name}.png", each.image)
        for number, kind in enumerate(("car", "sky"), start=1):
            gray8(here / "labels" / kind / f"{name}.png", np.where(each.label == number, 255, 0))
    line = r".*car/a\.png and .*sky/a\.png: both have the name of .*images/a\.png; .*--labels"
    return Wrong(Given(here / "images", here / "labels"), line)


def one_folder_of_images_alone(here: Path) -> Wrong:
    made = certain(here)
    line = r".*images: label maps and images cannot be told apart by their names; move .*"
    return Wrong(Given(made.given.images, made.given.images), line)


def images_of_a_format_that_is_not_read(here: Path) -> Wrong:
    for folder in ("images", "labels"):
        (here / folder).mkdir()
        (here / folder / "a.nii.gz").write_bytes(b"x")
    line = r".*images: no image in it \(1 other file, such as a\.nii\.gz\); name the folder that holds the images"
    return Wrong(Given(here / "images", here / "labels"), line)


def _coco_with(here: Path, *categories: dict[str, Any]) -> Given:
    given = coco_polygons(here).given
    content = json.loads(given.labels.read_text())
    content["categories"] += categories
    given.labels.write_text(json.dumps(content))
    return given


def coco_with_two_categories_of_one_name(here: Path) -> Wrong:
    line = r".*instances\.json: categories 7 and 11 are both named 'car'; rename one, or remove it .*"
    return Wrong(_coco_with(here, {"id": 11, "name": "car"}), line)


def coco_with_an_empty_name(here: Path) -> Wrong:
    return Wrong(_coco_with(here, {"id": 11, "name": ""}), r".*instances\.json: category 11 has no name; name it")


def coco_with_a_negative_id(here: Path) -> Wrong:
    line = r".*instances\.json: category -1 \('tree'\): ids must be 0 to 65535; renumber it"
    return Wrong(_coco_with(here, {"id": -1, "name": "tree"}), line)


def coco_with_an_id_beyond_16_bits(here: Path) -> Wrong:
    line = r".*instances\.json: category 65536 \('tree'\): ids must be 0 to 65535; renumber it"
    return Wrong(_coco_with(here, {"id": 65536, "name": "tree"}), line)


def tiles_of_images_in_tables(here: Path) -> Wrong:
    given = replace(parquet_file_of_structs(here).given, answers={"max_pixels": "100"})
    return Wrong(given, r"--max-pixels 100: images in tables have no tiles; leave it out", 3)
