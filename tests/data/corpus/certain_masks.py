"""Folders that are certain: label maps in every encoding and file format."""

from pathlib import Path

import numpy as np
from data.corpus.cases import Certain, Truth, certain
from data.corpus.files import (
    VOC,
    as_rgb,
    floats,
    gray8,
    gray16,
    int32,
    numpy_archive,
    numpy_file,
    with_alpha,
    write_gray_png,
    write_image,
    write_palette,
)
from data.corpus.scenes import Array, Scene, many_classes, painted, scenes, with_border, with_outlines

BINARY = ("background", "foreground")


def gray_png(here: Path) -> Certain:
    return certain(here)


def numbers_with_gaps(here: Path) -> Certain:
    return certain(here, values=(3, 11, 60))


def gray_png_of_1_bit(here: Path) -> Certain:
    return certain(
        here,
        wanted=scenes(2),
        values=(0, 1),
        classes=BINARY,
        mask=lambda path, raw: write_gray_png(path, raw, 1),
    )


def gray_png_of_2_bits(here: Path) -> Certain:
    return certain(here, wanted=scenes(4), values=(0, 1, 2, 3), mask=lambda path, raw: write_gray_png(path, raw, 2))


def gray_png_of_4_bits(here: Path) -> Certain:
    return certain(
        here, wanted=scenes(5), values=(0, 3, 7, 14, 15), mask=lambda path, raw: write_gray_png(path, raw, 4)
    )


def gray_png_of_16_bits(here: Path) -> Certain:
    return certain(here, values=(0, 300, 1000), mask=gray16)


def ids_around_255_in_16_bits(here: Path) -> Certain:
    """Ids beyond 255 say that 255 is a number as any other."""
    return certain(here, wanted=scenes(5), values=(0, 254, 255, 256, 300), mask=gray16)


def mixed_bit_depths(here: Path) -> Certain:
    writers = {"a": lambda path, raw: write_gray_png(path, raw, 2), "b": gray8, "c": gray16}
    return certain(here, mask=lambda path, raw: writers[path.stem](path, raw))


def three_hundred_classes(here: Path) -> Certain:
    return certain(here, wanted=many_classes(300), values=tuple(range(300)), mask=gray16)


def ignored_255_in_8_bits(here: Path) -> Certain:
    return certain(here, wanted=with_border(scenes()), notes=("255",))


def ignored_65535_in_16_bits(here: Path) -> Certain:
    return certain(here, wanted=with_border(scenes()), ignored=65535, mask=gray16, notes=("65535",))


def stated_255_is_ignored(here: Path) -> Certain:
    return certain(here, wanted=with_border(scenes(), 6), answers={"ignore": "255"})


def stated_0_is_ignored(here: Path) -> Certain:
    return certain(here, wanted=with_border(scenes()), values=(5, 6, 7), ignored=0, answers={"ignore": "0"})


def named_255_is_a_class(here: Path) -> Certain:
    return certain(
        here, values=(0, 1, 255), names="0 road\n1 car\n255 sky\n", classes=("road", "car", "sky"), mask=gray8
    )


def negative_ignored_when_stated(here: Path) -> Certain:
    return certain(
        here,
        wanted=with_border(scenes()),
        ignored=-1,
        mask=numpy_file,
        label_path="labels/{}.npy",
        answers={"ignore": "-1"},
    )


def binary_0_255(here: Path) -> Certain:
    return certain(here, wanted=scenes(2), values=(0, 255), classes=BINARY, notes=("0 and 255.*binary",))


def binary_0_255_as_rgb(here: Path) -> Certain:
    return certain(
        here,
        wanted=scenes(2),
        values=(0, 255),
        classes=BINARY,
        mask=lambda path, raw: write_image(path, as_rgb(raw)),
        notes=("binary",),
    )


def binary_0_65535(here: Path) -> Certain:
    return certain(here, wanted=scenes(2), values=(0, 65535), classes=BINARY, mask=gray16)


def binary_with_names(here: Path) -> Certain:
    return certain(here, wanted=scenes(2), values=(0, 255), names="0 tissue\n255 tumor\n", classes=("tissue", "tumor"))


def gray_as_rgb(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: write_image(path, as_rgb(raw)), notes=("R = G = B",))


def gray_with_opaque_alpha(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: write_image(path, with_alpha(raw)), notes=("alpha",))


def gray_as_opaque_rgba(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: write_image(path, with_alpha(as_rgb(raw))), notes=("alpha",))


def palette_of_voc(here: Path) -> Certain:
    return certain(here, wanted=with_border(scenes()), mask=_with_voc_palette, notes=("255",))


def _with_voc_palette(path: Path, raw: Array) -> None:
    write_palette(path, raw, (*VOC, *((0, 0, 0),) * 249, (224, 224, 192)))


def palette_of_4_bits(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: write_palette(path, raw, VOC, bits=4))


def palette_of_grays(here: Path) -> Certain:
    ramp = tuple((value, value, value) for value in range(256))
    return certain(here, mask=lambda path, raw: write_palette(path, raw, ramp))


def palette_and_gray_files(here: Path) -> Certain:
    writers = {"a": _with_voc_palette, "b": gray8, "c": _with_voc_palette}
    return certain(here, mask=lambda path, raw: writers[path.stem](path, raw), notes=("palette",))


def palette_whose_unused_colors_differ(here: Path) -> Certain:
    unused = {"a": (1, 2, 3), "b": (4, 5, 6), "c": (7, 8, 9)}
    return certain(here, mask=lambda path, raw: write_palette(path, raw, (*VOC[:3], unused[path.stem])))


def tiff_of_8_bits(here: Path) -> Certain:
    return certain(here, label_path="labels/{}.tif")


def tiff_of_16_bits(here: Path) -> Certain:
    return certain(here, values=(0, 1, 700), mask=gray16, label_path="labels/{}.tiff")


def tiff_of_32_bits(here: Path) -> Certain:
    return certain(here, values=(0, 1, 700), mask=int32, label_path="labels/{}.tif")


def tiff_of_whole_floats(here: Path) -> Certain:
    return certain(here, mask=floats, label_path="labels/{}.tif")


def bmp(here: Path) -> Certain:
    return certain(here, label_path="labels/{}.bmp")


def webp(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: write_image(path, as_rgb(raw)), label_path="labels/{}.webp")


def gif(here: Path) -> Certain:
    """Files of PASCAL's kind would be palette files; a GIF that Pillow writes from gray has gray colors."""
    return certain(here, label_path="labels/{}.gif")


def npy(here: Path) -> Certain:
    return certain(here, mask=numpy_file, label_path="labels/{}.npy")


def npy_of_bytes(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: numpy_file(path, raw.astype(np.uint8)), label_path="labels/{}.npy")


def npy_with_a_leading_axis(here: Path) -> Certain:
    return certain(here, mask=lambda path, raw: numpy_file(path, raw[None]), label_path="labels/{}.npy")


def npz(here: Path) -> Certain:
    return certain(here, mask=numpy_archive, label_path="labels/{}.npz")


COLORS = ((64, 128, 64), (192, 0, 128), (0, 128, 192))
COLOR_NAMES = "64 128 64\tanimal\n192 0 128\tarch\n0 128 192\tcyclist\n"


def colored(here: Path, paint: object = write_image, names: str | None = COLOR_NAMES, suffix: str = "png") -> Certain:
    """Scenes whose label maps are painted."""
    made = certain(
        here,
        classes=("animal", "arch", "cyclist"),
        mask=lambda path, raw: paint(path, painted(raw, COLORS)),
        label_path=f"labels/{{}}.{suffix}",
        names=names,
    )
    return Certain(made.given, Truth(made.truth.classes, COLORS, made.truth.scenes))


def colors_png(here: Path) -> Certain:
    return colored(here)


def colors_bmp(here: Path) -> Certain:
    return colored(here, suffix="bmp")


def colors_with_opaque_alpha(here: Path) -> Certain:
    return colored(here, lambda path, pixels: write_image(path, with_alpha(pixels)))


def colors_as_palette_and_rgb_files(here: Path) -> Certain:
    """Every color of the palettes occurs in the RGB files, so both mean colors."""

    def paint(path: Path, pixels: Array) -> None:
        if path.stem != "b":
            write_image(path, pixels)
        else:
            index = np.argmax((pixels[..., None, :] == np.array(COLORS)).all(-1), -1)
            write_palette(path, 2 - index, COLORS[::-1])

    return colored(here, paint)


def colors_in_a_table_with_header(here: Path) -> Certain:
    return colored(here, names="name,r,g,b\nanimal,64,128,64\narch,192,0,128\ncyclist,0,128,192\n")


def colors_after_the_name(here: Path) -> Certain:
    return colored(here, names="animal;64;128;64\r\narch;192;0;128\r\ncyclist;0;128;192\r\n")


def a_stated_color_is_ignored(here: Path) -> Certain:
    made = certain(
        here,
        wanted=with_border(scenes()),
        classes=("animal", "arch", "cyclist"),
        mask=lambda path, raw: write_image(path, painted(raw, COLORS)),
        names=COLOR_NAMES,
        answers={"ignore": "0:0:0"},
    )
    return Certain(made.given, Truth(made.truth.classes, COLORS, made.truth.scenes))


def colors_without_names(here: Path) -> Certain:
    """Classes are named after colors and are in the order of (R, G, B)."""
    made = certain(here, mask=lambda path, raw: write_image(path, painted(raw, COLORS)))
    order = sorted(COLORS)
    place = np.array([order.index(color) for color in COLORS])
    read = {path: Scene(each.image, place[each.label]) for path, each in made.truth.scenes.items()}
    names = tuple("color_{}_{}_{}".format(*color) for color in order)
    return Certain(made.given, Truth(names, tuple(order), read))


def outlines_of_two_pixels(here: Path) -> Certain:
    """Cells whose outline is a class of its own, with the number between outside and inside."""
    return certain(here, wanted=with_outlines(scenes(2), 2))
