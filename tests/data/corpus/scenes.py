"""The data behind the corpus: a few scenes whose shapes have no symmetry, so that a flip, a turn or a shift shows.

A kind of folder stores these scenes in its own way; reading it must give them back.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
IGNORED = 255


@dataclass(frozen=True)
class Scene:
    """An image and its class indices.

    Attributes:
        image: Colors, uint8 (H, W, 3).
        label: Class indices, (H, W); `IGNORED` where a pixel is not labeled.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.integer]


Scenes = Mapping[str, Scene]


def colors(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """Ramps that differ between rows, columns and channels, with noise."""
    rows, columns = np.mgrid[:height, :width]
    ramps = np.stack([4 * rows, 3 * columns, 2 * rows + columns + 30], axis=-1)
    return (ramps + np.random.default_rng(seed).integers(0, 40, ramps.shape)).astype(np.uint8)


def shapes(height: int, width: int, n_classes: int = 3) -> npt.NDArray[np.uint8]:
    """Class 0 around a wedge with a foot (1) and, from three classes on, plates at the upper right (2, 3, ...)."""
    label = np.zeros((height, width), np.uint8)
    for row in range(3, height - 8):
        label[row, 3 : 9 + row // 4] = 1
    label[height - 8 : height - 3, 3 : width - 9] = 1
    for index in range(2, n_classes):
        top = 3 + 4 * (index - 2)
        label[top : top + 12 if n_classes == 3 else top + 4, width - 16 - index : width - 2] = index
    return label


def scene(height: int, width: int, seed: int, n_classes: int = 3) -> Scene:
    """A scene with these classes."""
    return Scene(colors(height, width, seed), shapes(height, width, n_classes))


def scenes(n_classes: int = 3) -> dict[str, Scene]:
    """Three scenes of several sizes; with three classes, the last scene lacks class 2."""
    last = scene(40, 36, 3, 2 if n_classes == 3 else n_classes)
    return {"a": scene(30, 44, 1, n_classes), "b": scene(32, 46, 2, n_classes), "c": last}


def large_scenes() -> dict[str, Scene]:
    """Scenes of about 64 pixels with the areas that a block of JPEG needs to keep a level."""
    large = {}
    for name, height, width, seed in (("a", 60, 64, 1), ("b", 64, 62, 2), ("c", 64, 64, 3)):
        label = np.zeros((height, width), np.uint8)
        for row in range(6, height - 6):
            label[row, 4 : 14 + row // 3] = 1
        label[height - 20 : height - 6, 4 : width - 20] = 1
        if name != "c":
            label[6:30, width - 26 : width - 4] = 2
        large[name] = Scene(colors(height, width, seed), label)
    return large


def square_scenes() -> dict[str, Scene]:
    """Scenes of which a turned image has the same size."""
    return {name: scene(36, 36, seed) for seed, name in enumerate("abc")}


def with_border(wanted: Scenes, width: int = 1) -> dict[str, Scene]:
    """The scenes with a border of ignored pixels on the left and at the top."""
    bordered = {}
    for name, each in wanted.items():
        label = each.label.copy()
        label[:width], label[:, :width] = IGNORED, IGNORED
        bordered[name] = Scene(each.image, label)
    return bordered


def with_outlines(wanted: Scenes, width: int) -> dict[str, Scene]:
    """Scenes of class 1 with its outline: 0 outside, 1 on the outline, 2 inside."""
    outlined = {}
    for name, each in wanted.items():
        inside = each.label == 1
        for _ in range(width):
            shifted = [np.roll(inside, step, axis) for step in (1, -1) for axis in (0, 1)]
            inside = inside & np.logical_and.reduce(shifted)
        outlined[name] = Scene(each.image, (each.label + inside).astype(np.uint8))
    return outlined


def many_classes(n_classes: int, per_row: int = 20) -> dict[str, Scene]:
    """Two scenes of squares, 4 x 4 pixels for every class."""
    label = np.arange(n_classes, dtype=np.uint16).reshape(-1, per_row).repeat(4, 0).repeat(4, 1)
    height, width = label.shape
    return {
        "a": Scene(colors(height, width, 1), label),
        "b": Scene(colors(height, width, 2), np.ascontiguousarray(label[::-1])),
    }


def raw_of(label: Array, values: tuple[int, ...], ignored: int = IGNORED, dtype: type = np.int64) -> Array:
    """The stored numbers of class indices."""
    table = {IGNORED: ignored, **dict(enumerate(values))}
    return np.vectorize(table.__getitem__, otypes=[dtype])(label)


def painted(label: Array, colors_of_classes: tuple[tuple[int, int, int], ...]) -> npt.NDArray[np.uint8]:
    """The colors of class indices, (H, W, 3); black where a pixel is not labeled."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors_of_classes)] = colors_of_classes
    return table[label]
