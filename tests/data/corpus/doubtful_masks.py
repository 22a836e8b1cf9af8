"""Folders that are doubtful: label maps that were blurred, compressed, or whose numbers have two meanings."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from data.corpus.cases import Certain, Doubtful, Truth, certain
from data.corpus.certain_containers import labelme_polygons
from data.corpus.files import VOC, gray8, gray16, numpy_file, write_image, write_palette
from data.corpus.scenes import IGNORED, Array, Scene, large_scenes, painted, scenes, with_border, with_outlines
from PIL import Image

LEVELS = (0, 100, 200)
UNLISTED = ("--unlisted class", "--unlisted nearest", "--unlisted ignore")


def _relabeled(
    made: Certain, label_of: Callable[[str, Scene], Array], classes: tuple[str, ...], values: object
) -> Truth:
    """The truth with other class indices."""
    read = {path: Scene(each.image, label_of(Path(path).name, each)) for path, each in made.truth.scenes.items()}
    return Truth(classes, values, read)


def _lossy(made: Certain, stored: dict[str, Array], seen: tuple[str, ...], doubt: str = "lossy") -> Doubtful:
    """The three readings of gray label maps in which some values are the work of compression or smoothing."""
    levels, every = np.array(LEVELS), np.unique(np.concatenate([raw.ravel() for raw in stored.values()]))
    names = made.truth.classes

    def as_class(name: str, _: Scene) -> Array:
        return np.searchsorted(every, stored[name])

    def as_nearest(name: str, _: Scene) -> Array:
        distance = np.abs(stored[name].astype(int)[..., None] - levels)
        return distance.argmin(-1)  # ties go to the smaller value

    def as_ignored(name: str, _: Scene) -> Array:
        return np.where(np.isin(stored[name], levels), as_nearest(name, _), IGNORED)

    every_name = tuple(f"class_{value}" for value in every)
    readings = {
        "--unlisted class": _relabeled(made, as_class, every_name, tuple(every.tolist())),
        "--unlisted nearest": _relabeled(made, as_nearest, names, LEVELS),
        "--unlisted ignore": _relabeled(made, as_ignored, names, LEVELS),
    }
    return Doubtful(made.given, doubt, seen, readings)


def _stored_as(
    here: Path, change: Callable[[str, Array], Image.Image], suffix: str = "png"
) -> tuple[Certain, dict[str, Array]]:
    """Write gray label maps that went through a change; returns the case and the numbers that are stored."""
    stored = {}

    def write(path: Path, raw: Array) -> None:
        gray8(path, raw)  # makes the folder
        path.unlink()
        changed = change(path.stem, raw.astype(np.uint8))
        file = path.with_suffix(".jpg" if changed.info.pop("jpeg", False) else path.suffix)
        changed.save(file, quality=90) if file.suffix == ".jpg" else changed.save(file)
        with Image.open(file) as written:
            stored[path.stem] = np.asarray(written)

    made = certain(here, wanted=large_scenes(), values=LEVELS, mask=write, label_path=f"labels/{{}}.{suffix}")
    return made, stored


def jpeg_masks(here: Path) -> Doubtful:
    made, stored = _stored_as(here, lambda name, raw: Image.fromarray(raw), "jpg")
    return _lossy(made, stored, ("JPEG",))


def jpeg_masks_that_are_called_png(here: Path) -> Doubtful:
    """The content decides, not the name."""
    stored = {}

    def write(path: Path, raw: Array) -> None:
        gray8(path, raw)  # makes the folder
        Image.fromarray(raw.astype(np.uint8)).save(path, "JPEG", quality=90)
        with Image.open(path) as written:
            stored[path.stem] = np.asarray(written)

    return _lossy(certain(here, wanted=large_scenes(), values=LEVELS, mask=write), stored, ("JPEG",))


def one_jpeg_mask_among_png_masks(here: Path) -> Doubtful:
    def change(name: str, raw: Array) -> Image.Image:
        image = Image.fromarray(raw)
        image.info["jpeg"] = name == "b"
        return image

    made, stored = _stored_as(here, change)
    return _lossy(made, stored, (r"b\.jpg", "JPEG"))


def jpeg_masks_stored_again_as_png(here: Path) -> Doubtful:
    import io

    def change(name: str, raw: Array) -> Image.Image:
        content = io.BytesIO()
        Image.fromarray(raw).save(content, "JPEG", quality=75)
        return Image.open(content).copy()

    made, stored = _stored_as(here, change)
    return _lossy(made, stored, (), "rare")


def masks_resized_with_smoothing(here: Path) -> Doubtful:
    def change(name: str, raw: Array) -> Image.Image:
        height, width = raw.shape
        larger = Image.fromarray(raw.repeat(3, 0).repeat(3, 1)[1:, 1:])
        return larger.resize((width, height), Image.Resampling.BILINEAR)

    made, stored = _stored_as(here, change)
    return _lossy(made, stored, (), "rare")


COLORS = ((10, 20, 200), (200, 30, 10), (10, 220, 40))


def colors_resized_with_smoothing(here: Path) -> Doubtful:
    stored = {}

    def write(path: Path, raw: Array) -> None:
        height, width = raw.shape
        larger = Image.fromarray(painted(raw, COLORS).repeat(3, 0).repeat(3, 1)[1:, 1:])
        small = larger.resize((width, height), Image.Resampling.BILINEAR)
        stored[path.stem] = np.asarray(small)
        write_image(path, stored[path.stem])

    lines = "".join(f"{r} {g} {b} {name}\n" for (r, g, b), name in zip(COLORS, ("sea", "roof", "wood"), strict=True))
    made = certain(here, classes=("sea", "roof", "wood"), mask=write, names=lines)
    # By hand: squared distance; of equally near colors, the smaller value, which is R + 256 G + 65536 B.
    order = np.argsort([r + 256 * g + 65536 * b for r, g, b in COLORS])

    def as_nearest(name: str, _: Scene) -> Array:
        distance = ((stored[name].astype(int)[..., None, :] - np.array(COLORS)[order]) ** 2).sum(-1)
        return order[distance.argmin(-1)]

    def as_ignored(name: str, _: Scene) -> Array:
        exact = (stored[name][..., None, :] == np.array(COLORS)).all(-1).any(-1)
        return np.where(exact, as_nearest(name, _), IGNORED)

    readings = {
        "--unlisted nearest": _relabeled(made, as_nearest, made.truth.classes, COLORS),
        "--unlisted ignore": _relabeled(made, as_ignored, made.truth.classes, COLORS),
    }
    return Doubtful(made.given, "rare", (), readings)


def _ignored_or_not(
    made: Certain, doubt: str, seen: tuple[str, ...], ignored: int, classes: tuple[str, ...]
) -> Doubtful:
    """A value that is ignored, or the last class."""
    index = len(classes) - 1
    names = {
        f"--ignore {ignored}": Truth(classes[:-1], made.truth.values[:-1], made.truth.scenes),
        "--ignore none": _relabeled(
            made, lambda _, each: np.where(each.label == IGNORED, index, each.label), classes, made.truth.values
        ),
    }
    return Doubtful(made.given, doubt, seen, names)


def _last_ignored(made: Certain) -> Certain:
    """The truth in which the last class is ignored."""
    last = len(made.truth.classes) - 1
    changed = _relabeled(
        made, lambda _, each: np.where(each.label == last, IGNORED, each.label), made.truth.classes, made.truth.values
    )
    return replace(made, truth=changed)


def more_than_a_fifth_is_255(here: Path) -> Doubtful:
    made = certain(here, wanted=with_border(scenes(), 6))
    classes = (*made.truth.classes, "class_255")
    made = replace(made, truth=replace(made.truth, values=(0, 1, 2, 255)))
    return _ignored_or_not(made, "ignored", ("255", "%"), 255, classes)


def levels_of_2_bits_up_to_255(here: Path) -> Doubtful:
    """Ids of 2 bits that a program scaled to 8 bits."""
    made = certain(here, wanted=scenes(4), values=(0, 85, 170, 255))
    return _ignored_or_not(_last_ignored(made), "levels", ("255",), 255, made.truth.classes)


def values_253_and_254_beside_255(here: Path) -> Doubtful:
    made = certain(here, wanted=scenes(5), values=(0, 1, 253, 254, 255))
    return _ignored_or_not(_last_ignored(made), "levels", ("255", "253"), 255, made.truth.classes)


def more_than_a_fifth_is_65535(here: Path) -> Doubtful:
    made = certain(here, wanted=with_border(scenes(), 6), ignored=65535, mask=gray16)
    classes = (*made.truth.classes, "class_65535")
    made = replace(made, truth=replace(made.truth, values=(0, 1, 2, 65535)))
    return _ignored_or_not(made, "ignored", ("65535", "%"), 65535, classes)


def negative_numbers(here: Path) -> Doubtful:
    made = certain(here, wanted=with_border(scenes()), ignored=-1, mask=numpy_file, label_path="labels/{}.npy")
    return Doubtful(made.given, "negative", ("-1",), {"--ignore -1": made.truth})


def palettes_in_another_order(here: Path) -> Doubtful:
    """The same colors at other indices: indices or colors mean the classes, not both."""
    orders = {"a": (0, 1, 2), "b": (2, 0, 1), "c": (1, 0, 2)}
    stored = {}

    def write(path: Path, raw: Array) -> None:
        order = orders[path.stem]
        stored[path.stem] = np.array(order)[raw]
        palette = [VOC[0]] * 3
        for index, place in enumerate(order):
            palette[place] = VOC[index + 1]
        write_palette(path, stored[path.stem], palette)

    made = certain(here, mask=write)
    indices = _relabeled(made, lambda name, _: stored[name], made.truth.classes, made.truth.values)
    colors = _by_color(made, lambda _, each: each.label, VOC[1:4])
    return Doubtful(
        made.given, "palettes", ("palette",), {"--labels-are palette": indices, "--labels-are colors": colors}
    )


def _by_color(
    made: Certain, label_of: Callable[[str, Scene], Array], colors: tuple[tuple[int, int, int], ...]
) -> Truth:
    """The truth of colors without names: classes are in the order of (R, G, B)."""
    order = sorted(colors)
    place = np.array([order.index(color) for color in colors])
    names = tuple("color_{}_{}_{}".format(*color) for color in order)
    return _relabeled(made, lambda name, each: place[label_of(name, each)], names, tuple(order))


def palette_files_with_colors_that_rgb_files_lack(here: Path) -> Doubtful:
    def write(path: Path, raw: Array) -> None:
        if path.stem == "a":
            write_palette(path, raw, VOC[:3])
        else:
            write_image(path, painted(raw, VOC[3:6]))

    made = certain(here, mask=write)
    six = _by_color(made, lambda name, each: each.label + (0 if name == "a" else 3), VOC)
    return Doubtful(made.given, "mixed", ("palette",), {"--labels-are colors": six})


def outlines_of_one_pixel_between_two_numbers(here: Path) -> Doubtful:
    """An outline of number 1 between 0 and 2 looks like smoothing between 0 and 2; names do not tell them apart."""
    made = certain(
        here,
        wanted=with_outlines(scenes(2), 1),
        names="outside\noutline\ninside\n",
        classes=("outside", "outline", "inside"),
    )
    return Doubtful(made.given, "lossy", ("smooth",), {"--unlisted class": made.truth})


def ids_from_1_with_names_from_0(here: Path) -> Doubtful:
    made = certain(here, values=(1, 2, 3), names="road\ncar\nsky\n", classes=("road", "car", "sky"))
    return Doubtful(made.given, "first_id", ("3",), {"--first-id 1": made.truth, "--first-id 0": r"value 3\b"})


def a_name_that_never_occurs(here: Path) -> Doubtful:
    made = certain(here, names="road\ncar\nsky\nship\n", classes=("road", "car", "sky", "ship"))
    truth = replace(made.truth, values=(0, 1, 2, 3))
    return Doubtful(made.given, "unseen", ("ship",), {"--first-id 0": truth})


def a_mask_without_an_image(here: Path) -> Doubtful:
    made = certain(here)
    gray8(here / "labels" / "alone.png", np.full((9, 9), 2))
    return Doubtful(made.given, "unpaired", (r"alone\.png",), {"--unpaired ignore": made.truth})


def a_labelme_file_without_an_image(here: Path) -> Doubtful:
    made = labelme_polygons(here)
    shutil.copy(here / "labels" / "a.json", here / "labels" / "z.json")
    return Doubtful(made.given, "unpaired", (r"labels/z\.json: has no image",), {"--unpaired ignore": made.truth})
