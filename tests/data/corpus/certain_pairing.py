"""Folders that are certain: rules by which an image finds its label map."""

import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
from data.corpus.cases import Certain, Given, Truth, certain
from data.corpus.files import gray8, write_image
from data.corpus.scenes import Scenes, scene, scenes

NAMES = ("class_0", "class_1", "class_2")
BOTH = (".", ".")


def _several_folders() -> Scenes:
    """Frames of the same name in three folders, each with its own content."""
    paths = ("ulm/0001", "ulm/0002", "bonn/0001", "trier/0001")
    return {path: scene(30 + number, 44, number) for number, path in enumerate(paths)}


def same_path_and_stem(here: Path) -> Certain:
    return certain(here, wanted=_several_folders())


def same_stem_in_flat_masks(here: Path) -> Certain:
    wanted = dict(zip(("ulm/u1", "ulm/u2", "bonn/b1"), scenes().values(), strict=True))
    return certain(here, wanted=wanted, mask=lambda path, raw: gray8(here / "labels" / path.name, raw))


def suffix_on_masks(here: Path) -> Certain:
    return certain(here, label_path="labels/{}_mask.png")


def prefix_on_masks(here: Path) -> Certain:
    return certain(here, label_path="labels/mask_{}.png")


def prefix_and_suffix_on_masks(here: Path) -> Certain:
    return certain(here, label_path="labels/gt-{}-v2.png")


def suffixes_on_both_sides_in_folders(here: Path) -> Certain:
    return certain(
        here,
        wanted=_several_folders(),
        image_path="leftImg8bit/{}_leftImg8bit.png",
        label_path="gtFine/{}_gtFine_labelIds.png",
        folders=("leftImg8bit", "gtFine"),
    )


def suffix_on_images(here: Path) -> Certain:
    return certain(here, image_path="images/{}_rgb.png")


def numbers_are_no_suffix(here: Path) -> Certain:
    """Stems that are suffixes of each other: 1 and 11 must not be mixed up."""
    wanted = dict(zip(("1", "11", "111"), scenes().values(), strict=True))
    return certain(here, wanted=wanted, label_path="labels/{}_1.png")


def double_extension(here: Path) -> Certain:
    return certain(here, image_path="images/{}.bmp", label_path="labels/{}.bmp.png")


def dots_in_names(here: Path) -> Certain:
    wanted = dict(zip(("v1.0.a", "v1.0.b", "v1.1"), scenes().values(), strict=True))
    return certain(here, wanted=wanted, image_path="images/{}.png")


def parallel_folders_in_one_tree(here: Path) -> Certain:
    wanted = _several_folders()
    paths = {path: "{}/{}/{}".format(Path(path).parent, "{}", Path(path).name) for path in wanted}
    for path, each in wanted.items():
        write_image(here / f"{paths[path].format('img')}.png", each.image)
        gray8(here / f"{paths[path].format('ann')}.png", each.label)
    read = {paths[path].format("img"): each for path, each in wanted.items()}
    return Certain(Given(here, here), Truth(NAMES, (0, 1, 2), read))


def both_in_one_folder_by_suffix(here: Path) -> Certain:
    return certain(here, image_path="{}.png", label_path="{}_mask.png", folders=BOTH)


def both_in_one_folder_by_extension(here: Path) -> Certain:
    return certain(here, image_path="{}.bmp", label_path="{}.png", folders=BOTH)


def labels_below_the_images(here: Path) -> Certain:
    """The folder of label maps lies inside the folder of images."""
    return certain(here, image_path="all/{}.png", label_path="all/masks/{}.png", folders=("all", "all/masks"))


def parent_of_both_in_the_place_of_the_labels(here: Path) -> Certain:
    return certain(
        here, image_path="data/images/{}.png", label_path="data/labels/{}.png", folders=("data/images", "data")
    )


def parent_of_both_in_the_place_of_the_images(here: Path) -> Certain:
    return certain(
        here, image_path="data/images/{}.png", label_path="data/labels/{}.png", folders=("data", "data/labels")
    )


def images_without_masks(here: Path) -> Certain:
    made = certain(here)
    for number in range(2):
        write_image(here / "images" / f"unlabeled{number}.png", np.full((9, 9, 3), 7 + number, np.uint8))
    return replace(made, truth=replace(made.truth, unlabeled=2))


def masks_without_images_left_out(here: Path) -> Certain:
    made = certain(here, answers={"unpaired": "ignore"})
    gray8(here / "labels" / "alone.png", np.full((9, 9), 2))
    return made


def uppercase_extensions(here: Path) -> Certain:
    return certain(here, image_path="images/{}.PNG", label_path="labels/{}.Png")


def spaces_and_brackets(here: Path) -> Certain:
    wanted = dict(zip(("a [1] (x)", "b {2} *+?", "c^$ d"), scenes().values(), strict=True))
    return certain(
        here,
        wanted=wanted,
        image_path="My [new] images/{}.png",
        label_path="My labels/{}.png",
        folders=("My [new] images", "My labels"),
    )


def names_of_240_characters(here: Path) -> Certain:
    wanted = {name * 240: each for name, each in scenes().items()}
    return certain(here, wanted=wanted)


def decomposed_names(here: Path) -> Certain:
    """Images as macOS names them (e + accent), label maps as Linux does (one character)."""
    composed = ("caf\u00e9", "\u00fcber", "\u00f1and\u00fa")
    wanted = {unicodedata.normalize("NFD", name): each for name, each in zip(composed, scenes().values(), strict=True)}
    return certain(
        here,
        wanted=wanted,
        mask=lambda path, raw: gray8(path.with_name(unicodedata.normalize("NFC", path.name)), raw),
    )


def names_that_are_no_utf8(here: Path) -> Certain:
    """Names as an old archive leaves them, in bytes that are no UTF-8."""
    wanted = {
        os.fsdecode(name): each for name, each in zip((b"caf\xe9", b"\xfc", b"c"), scenes().values(), strict=True)
    }
    return certain(here, wanted=wanted)


def zeros_before_numbers(here: Path) -> Certain:
    wanted = dict(zip(("frame_8", "frame_9", "frame_10"), scenes().values(), strict=True))

    def write(path: Path, raw: np.ndarray) -> None:
        gray8(path.with_stem(f"frame_{int(path.stem[6:]):03}"), raw)

    return certain(here, wanted=wanted, mask=write)


def masks_in_a_folder_beside_the_images_of_every_case(here: Path) -> Certain:
    """case/images/case.png and case/masks/case.png, and everything is given as one folder."""
    for name, each in scenes().items():
        write_image(here / name / "images" / f"{name}.png", each.image)
        gray8(here / name / "masks" / f"{name}.png", each.label)
    read = {f"{name}/images/{name}": each for name, each in scenes().items()}
    return Certain(Given(here, here), Truth(NAMES, (0, 1, 2), read))


def colors_named_as_cvat_does(here: Path) -> Certain:
    from data.corpus.files import VOC, write_palette

    lines = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in zip(("sky", "car"), VOC[:2], strict=True))
    made = certain(
        here,
        wanted=scenes(2),
        values=(0, 1),
        classes=("sky", "car"),
        mask=lambda path, raw: write_palette(path, raw, VOC),
        names=f"# label:color_rgb:parts:actions\n{lines}",
    )
    return replace(made, truth=replace(made.truth, values=VOC[:2]))


def values_named_as_roboflow_does(here: Path) -> Certain:
    lines = "Pixel Value, Class\n0, road\n1, car\n2, sky\n"
    return certain(here, image_path="{}.png", label_path="{}_mask.png", folders=BOTH, names=lines,
                   classes=("road", "car", "sky"))  # fmt: skip


def values_after_names(here: Path) -> Certain:
    return certain(here, names="road,0\ncar,1\nsky,2\n", classes=("road", "car", "sky"))
