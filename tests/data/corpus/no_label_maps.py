"""Folders that are doubtful: what lies in the place of label maps was made for something else."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from data.corpus.cases import Doubtful, Given, certain
from data.corpus.files import gray8, gray16, write_image
from data.corpus.scenes import Array, Scene, colors, large_scenes, painted

CLASS = "--unlisted class"


def _squares(n: int, first: int = 1) -> Array:
    """Objects of 6 x 6 pixels with their numbers, on 0; a few of them are partly covered."""
    raw = np.zeros((48, 48), np.int64)
    for number in range(n):
        row, column = 8 * (number // 6), 8 * (number % 6)
        raw[row : row + 6, column : column + 6] = first + number
        raw[row + 5 : row + 7, column + 4] = first + number
    return raw


def _read_as_classes(
    here: Path, raws: Mapping[str, Array], doubt: str, seen: tuple[str, ...], mask: Callable[[Path, Array], object]
) -> Doubtful:
    """Numbers that are all classes, if someone says so."""
    values = np.unique(np.concatenate([raw.ravel() for raw in raws.values()]))
    wanted = {
        name: Scene(colors(*raw.shape, seed), np.searchsorted(values, raw))
        for seed, (name, raw) in enumerate(raws.items())
    }
    made = certain(here, wanted=wanted, values=tuple(values.tolist()), ignored=-1, mask=mask)
    return Doubtful(made.given, doubt, seen, {CLASS: made.truth})


def objects_counted_in_every_mask(here: Path) -> Doubtful:
    raws = {name: _squares(n) for name, n in zip("abcd", (7, 12, 9, 14), strict=True)}
    return _read_as_classes(here, raws, "instances", ("count from 1", r"to 7 in .*a\.png", r"to 14 in .*d\.png"), gray8)


def objects_counted_in_every_class(here: Path) -> Doubtful:
    """Numbers are 1000 * class + object."""
    raws = {name: _squares(n, 24001) + 7 * (_squares(n) == 0) for name, n in zip("abc", (9, 18, 11), strict=True)}
    return _read_as_classes(here, raws, "instances", ("19 values up to 24018 lie far apart",), gray16)


def objects_in_colors_of_their_own(here: Path) -> Doubtful:
    shades = tuple((value, 255 - 3 * value, 7 * value % 256) for value in range(0, 75, 3))
    wanted = {}
    for seed, name in enumerate("abcd"):
        objects = _squares(6)
        wanted[name] = Scene(colors(48, 48, seed), np.where(objects, objects + 6 * seed, 0))
    names = tuple("color_{}_{}_{}".format(*shade) for shade in shades)
    made = certain(here, wanted=wanted, mask=lambda path, raw: write_image(path, painted(raw, shades)), classes=names,
                   values=tuple(range(25)))  # fmt: skip
    made = replace(made, truth=replace(made.truth, values=shades))
    return Doubtful(made.given, "instances", ("24 of 25 colors", "one label map only"), {CLASS: made.truth})


def gray_photographs(here: Path) -> Doubtful:
    raws = {name: colors(30, 44, 10 + seed)[..., 1].astype(np.int64) for seed, name in enumerate("abc")}
    return _read_as_classes(here, raws, "picture", ("pictures", "exchange --images and --labels"), gray8)


def images_and_label_maps_exchanged(here: Path) -> Doubtful:
    made = certain(here, wanted=large_scenes(), image=lambda path, pixels: write_image(path, pixels))
    given = Given(made.given.labels, made.given.images)
    return Doubtful(
        given, "picture", ("exchange --images and --labels",), {CLASS: r".* classes in 3 label maps, .*4096.*"}
    )


def depth_maps(here: Path) -> Doubtful:
    """Depths that change slowly: every value has areas of its own, and meets the next one."""
    rows, columns = np.mgrid[:66, :66] // 2
    raws = {name: 20 + shift + rows + columns for shift, name in enumerate("abc")}
    return _read_as_classes(here, raws, "picture", ("65 values run into each other", "depth maps"), gray8)


def a_second_object_in_a_mask_of_its_own(here: Path) -> Doubtful:
    """Beside x_mask.png, there is x_mask_1.png, which holds more of the truth."""
    made = certain(here, image_path="{}.png", label_path="{}_mask.png", folders=(".", "."))
    gray8(here / "b_mask_1.png", np.ones((32, 46)))
    return Doubtful(
        made.given, "unpaired", (r"b_mask_1\.png: has no image \(1 of 4",), {"--unpaired ignore": made.truth}
    )
