"""Folders that cannot be read: the whole line that says why, as an expression."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from data.corpus.cases import Given, Wrong, certain, write_names
from data.corpus.certain_containers import coco_polygons
from data.corpus.files import (
    as_rgb,
    floats,
    gray8,
    numpy_file,
    with_alpha,
    write_image,
    write_oriented,
)
from data.corpus.scenes import scenes, square_scenes
from PIL import Image


def varying_alpha(here: Path) -> Wrong:
    def write(path: Path, raw: np.ndarray) -> None:
        write_image(path, with_alpha(as_rgb(raw), 255 - 100 * (raw == 1)))

    return Wrong(
        certain(here, mask=write).given, r".*a\.png: alpha is 155 at row 3, column 3; .*store it without alpha"
    )


def quarter_turns_that_fit_both_ways(here: Path) -> Wrong:
    """One label map is drawn on the upright picture, another on the stored pixels."""

    def write(path: Path, pixels: np.ndarray) -> None:
        stored = pixels if path.stem == "a" else np.ascontiguousarray(np.rot90(pixels))
        write_oriented(path, stored, 6)

    return Wrong(certain(here, image=write, image_path="images/{}.jpg").given, r".*EXIF.*")


def a_value_without_a_name(here: Path) -> Wrong:
    made = certain(here, values=(0, 1, 9), names="road\ncar\n")
    return Wrong(made.given, r".*a\.png: value 9 has no name: .*names\.txt.*--ignore 9")


def a_number_without_a_name(here: Path) -> Wrong:
    made = certain(here, values=(0, 1, 9), names="0 road\n1 car\n8 sky\n")
    return Wrong(made.given, r".*a\.png: value 9 has no name: .*names\.txt.*--ignore 9")


def duplicate_names(here: Path) -> Wrong:
    made = certain(here, names="road\ncar\nroad\n")
    return Wrong(made.given, r".*names\.txt.*line.*1.*3.*road.*|.*names\.txt.*road.*1.*3.*", 3)


def names_in_utf16(here: Path) -> Wrong:
    return Wrong(certain(here, names="road\ncar\nsky\n".encode("utf-16")).given, r".*names\.txt.*UTF-16.*", 3)


def no_names_file(here: Path) -> Wrong:
    return Wrong(replace(certain(here).given, names=here / "nowhere.txt"), r".*nowhere\.txt.*", 3)


def images_of_one_color(here: Path) -> Wrong:
    made = certain(here, image=lambda path, pixels: write_image(path, np.zeros_like(pixels)))
    return Wrong(made.given, r".*one color.*")


def one_class(here: Path) -> Wrong:
    made = certain(here, values=(4, 4, 4))
    return Wrong(made.given, r".*only one class \(4\) in 3 label maps, but 2 to 4096 are needed.*")


def more_than_4096_classes(here: Path) -> Wrong:
    from data.corpus.scenes import many_classes

    wanted = many_classes(4160, 64)
    made = certain(
        here, wanted=wanted, values=tuple(range(4160)), ignored=-1, mask=numpy_file, label_path="labels/{}.npy"
    )
    return Wrong(made.given, r".*4160 classes.*4096.*")


def no_such_folder(here: Path) -> Wrong:
    made = certain(here)
    return Wrong(Given(here / "pictures", made.given.labels), r".*pictures.*")


def an_empty_folder(here: Path) -> Wrong:
    made = certain(here)
    (here / "empty").mkdir()
    return Wrong(Given(made.given.images, here / "empty"), r".*empty.*")


def nothing_pairs(here: Path) -> Wrong:
    certain(here)
    for number in range(3):
        gray8(here / "others" / f"x{number}y.png", scenes()["a"].label)
    return Wrong(Given(here / "images", here / "others"), r".*(others|x0y\.png).*")


def an_image_of_another_size(here: Path) -> Wrong:
    made = certain(here)
    write_image(here / "images" / "b.png", scenes()["a"].image)
    return Wrong(made.given, r".*b\.png.*32 x 46.*30 x 44.*|.*b\.png.*30 x 44.*32 x 46.*")


def floats_that_are_not_whole(here: Path) -> Wrong:
    made = certain(here, mask=lambda path, raw: floats(path, raw + 0.25), label_path="labels/{}.tif")
    return Wrong(made.given, r".*a\.tif.*whole.*")


def npy_with_channels(here: Path) -> Wrong:
    made = certain(here, mask=lambda path, raw: numpy_file(path, np.stack([raw] * 3, -1)), label_path="labels/{}.npy")
    return Wrong(made.given, r".*a\.npy.*")


def npy_with_objects(here: Path) -> Wrong:
    """An array of objects is a pickle, and is never opened."""

    def write(path: Path, raw: np.ndarray) -> None:
        path.parent.mkdir(exist_ok=True)
        np.save(path, raw.astype(object), allow_pickle=True)

    return Wrong(certain(here, mask=write, label_path="labels/{}.npy").given, r".*a\.npy.*")


def a_truncated_mask(here: Path) -> Wrong:
    made = certain(here)
    file = here / "labels" / "b.png"
    file.write_bytes(file.read_bytes()[:60])
    return Wrong(made.given, r".*b\.png.*")


def a_mask_that_is_text(here: Path) -> Wrong:
    made = certain(here)
    (here / "labels" / "b.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    return Wrong(made.given, r".*b\.png.*")


def colors_stated_to_be_gray(here: Path) -> Wrong:
    def write(path: Path, raw: np.ndarray) -> None:
        colored = as_rgb(raw)
        colored[4, 5] = 9, 8, 7
        write_image(path, colored)

    made = certain(here, mask=write, answers={"labels_are": "gray"})
    return Wrong(
        made.given, r".*a\.png: has colored pixels, so it cannot be read as gray; state another --labels-are.*"
    )


def a_band_that_files_lack(here: Path) -> Wrong:
    return Wrong(certain(here, answers={"bands": "1,2,7"}).given, r".*\b7\b.*3 bands.*|.*3 bands.*\b7\b.*")


def a_color_without_a_name(here: Path) -> Wrong:
    from data.corpus.certain_masks import COLORS, painted

    made = certain(
        here,
        mask=lambda path, raw: write_image(path, painted(raw, COLORS)),
        names="64 128 64 animal\n192 0 128 arch\n",
    )
    return Wrong(made.given, r".*a\.png: color \(0, 128, 192\) has no name: .*names\.txt.*--ignore 0:128:192")


def instances_that_are_no_json(here: Path) -> Wrong:
    made = certain(here)
    (here / "instances.json").write_text('{"images": [')
    return Wrong(Given(made.given.images, here / "instances.json"), r".*instances\.json.*")


def an_ignored_word(here: Path) -> Wrong:
    return Wrong(
        certain(here, answers={"ignore": "void"}).given,
        r"--ignore void: must be values such as 0,255, colors such as 0:0:0, or none; correct it",
        3,
    )


def a_range_that_is_empty(here: Path) -> Wrong:
    return Wrong(
        certain(here, answers={"range": "5,5"}).given,
        r"--range 5,5: must be the values for black and white, such as 0,4095; correct it",
        3,
    )


def an_unknown_reading(here: Path) -> Wrong:
    made = certain(here, wanted=square_scenes(), answers={"exif": "maybe"})
    return Wrong(made.given, r"--exif maybe: must be apply or ignore; correct it", 3)


def a_value_beyond_16_bits(here: Path) -> Wrong:
    made = certain(here, values=(0, 1, 70000), mask=numpy_file, label_path="labels/{}.npy")
    return Wrong(
        made.given, r".*a\.npy: value 70000 cannot be read, because values are at most 65535; store smaller ids"
    )


def a_pixel_that_is_no_number(here: Path) -> Wrong:
    def write(path: Path, raw: np.ndarray) -> None:
        numbers = raw.astype(np.float32)
        numbers[2, 3] = np.nan
        floats(path, numbers)

    made = certain(here, mask=write, label_path="labels/{}.tif")
    return Wrong(made.given, r".*a\.tif: nan at row 2, column 3 is not a whole number; store class ids")


def an_animation(here: Path) -> Wrong:
    def write(path: Path, raw: np.ndarray) -> None:
        path.parent.mkdir(exist_ok=True)
        first, second = (Image.fromarray((raw + step).astype(np.uint8)) for step in (0, 1))
        first.save(path, save_all=True, append_images=[second])

    made = certain(here, mask=write, label_path="labels/{}.gif")
    return Wrong(made.given, r".*a\.gif: an animation of 2 frames; store one image per label map")


def _annotated(here: Path, line: str, code: int = 4, **answers: str) -> Wrong:
    return Wrong(replace(coco_polygons(here).given, answers=answers), line, code)


def names_beside_annotations(here: Path) -> Wrong:
    given = replace(coco_polygons(here).given, names=write_names(here, "a\nb\n"))
    return Wrong(given, r".*names\.txt: annotations name their classes.*", 3)


def an_unknown_category_is_ignored(here: Path) -> Wrong:
    return _annotated(here, r"--ignore 8: is unknown in .*instances\.json.*", ignore="8")


def all_categories_but_one_are_ignored(here: Path) -> Wrong:
    return _annotated(here, r".*instances\.json: only one class \(background\).*", ignore="7,9")


def an_answer_for_label_maps_beside_annotations(here: Path) -> Wrong:
    return _annotated(here, r"--labels-are: is for label maps.*", 3, labels_are="gray")


def columns_of_a_folder(here: Path) -> Wrong:
    return Wrong(replace(certain(here).given, answers={"columns": "a,b"}), r"--columns a,b: is for Parquet files.*", 3)


def a_first_id_without_names(here: Path) -> Wrong:
    return Wrong(replace(certain(here).given, answers={"first_id": "1"}), r"--first-id 1: .*give --names", 3)


def several_folders_of_images(here: Path) -> Wrong:
    given = certain(here).given
    for image in sorted(given.images.iterdir()):
        write_image(here / "copies" / image.name, np.zeros((4, 4, 3), np.uint8))
    line = r".*copies/a\.png and .*images/a\.png: both have the name of .*labels/a\.png; .* folder .* by --images"
    return Wrong(replace(given, images=here), line)
