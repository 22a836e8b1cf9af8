"""The numbers or colors by which the label maps of a dataset say which class a pixel has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import model_validator

from seg_transfer.data.decoding import open_image
from seg_transfer.data.encodings import ColorLabels, LabelmeLabels, ValueLabels
from seg_transfer.data.encodings.color import Color
from seg_transfer.data.fields import Block, Integer
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.numbers import palette_of
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

_LARGEST_BYTE, _LARGEST = 255, 65535


class LabelIds(Block):
    """How label maps are written: which number or color each class has.

    Attributes:
        kind: ``values`` are gray images of 8 bits, or of 16 if a number needs them; ``palette`` are images with one
            palette index per pixel; ``colors`` are RGB images.
        ids: The number, or color, of every class, in class order; None for a class that the label maps do not have.
        palette: The color of every palette index that has one.
    """

    kind: Literal["values", "palette", "colors"]
    ids: tuple[Integer | Color | None, ...]
    palette: tuple[Color, ...] | None = None

    @model_validator(mode="after")
    def _ids_fit_kind(self) -> Self:
        largest = _LARGEST_BYTE if self.kind == "palette" else _LARGEST
        for value in self.ids:
            if value is None:
                continue
            if isinstance(value, tuple) != (self.kind == "colors"):
                raise ValueError(
                    f"labels.ids holds {value!r}, which does not fit labels.kind {self.kind!r}; correct it"
                )
            if isinstance(value, int) and not 0 <= value <= largest:
                raise ValueError(f"labels.ids holds {value}; {self.kind} allow 0 to {largest}, correct it")
        if len(self.palette or ()) > _LARGEST_BYTE + 1:
            raise ValueError(f"labels.palette has {len(self.palette or ())} colors; at most 256 can be, remove some")
        if all(value is None for value in self.ids):
            raise ValueError("labels.ids names no class; list the number or color of each")
        return self

    @property
    def known(self) -> tuple[int, ...]:
        """Indices of the classes that label maps can hold."""
        return tuple(index for index, value in enumerate(self.ids) if value is not None)


def label_ids(manifest: DatasetManifest, records: Iterable[Record] = ()) -> LabelIds:
    """Return how label maps of a dataset are written.

    Of several numbers that the manifest maps to one class, its first one is written. LabelMe's files have names instead
    of numbers: class indices are written.

    Args:
        manifest: The dataset.
        records: Some of its images; the palette of the first label map that has one is kept.

    Example:
        >>> from seg_transfer.data.manifest import load_manifest
        >>> label_ids(load_manifest("small/camvid")).ids[:3]
        (0, 1, 2)
    """
    labels, n_classes = manifest.labels, len(manifest.classes)
    if isinstance(labels, ColorLabels):
        return LabelIds(kind="colors", ids=labels.colours)
    if isinstance(labels, LabelmeLabels):
        return class_indices(n_classes)
    raw_of: dict[int, int] = {}
    for raw, index in manifest.raw_classes().items():
        if index != manifest.ignore_index:
            raw_of.setdefault(index, raw)
    ids = tuple(raw_of.get(index) for index in range(n_classes))
    if isinstance(labels, ValueLabels) and labels.encoding == "palette":
        return LabelIds(kind="palette", ids=ids, palette=_palette(records))
    return LabelIds(kind="values", ids=ids)


def class_indices(n_classes: int) -> LabelIds:
    """Return the way to write class indices themselves, for a network whose labels were not described."""
    return LabelIds(kind="values", ids=tuple(range(n_classes)))


def draw_labels(classes: npt.NDArray[np.integer], labels: LabelIds) -> Image.Image:
    """Draw a label map, which a manifest of the dataset decodes to the same classes.

    Args:
        classes: Class indices, (H, W); only those that `labels` has an id for.
        labels: How it is written.

    Returns:
        An image of mode L, I;16, P or RGB.
    """
    if labels.kind == "colors":
        colors = np.array([value or (0, 0, 0) for value in labels.ids], np.uint8)
        return Image.fromarray(colors[classes])
    numbers = [value if isinstance(value, int) else 0 for value in labels.ids]
    image = Image.fromarray(np.array(numbers, np.uint8 if max(numbers) <= _LARGEST_BYTE else np.uint16)[classes])
    if labels.kind == "palette":
        image.putpalette(colors_of_indices(labels).tobytes())
    return image


def class_colors(labels: LabelIds) -> npt.NDArray[np.uint8]:
    """Return a color for every class, (C, 3): the dataset's own if they differ, otherwise distinct ones."""
    distinct = distinct_colors(len(labels.ids))
    if labels.kind == "values" or (labels.kind == "palette" and labels.palette is None):
        return distinct
    own = labels.ids if labels.kind == "colors" else [_at(labels.palette or (), value) for value in labels.ids]
    known = [color for color in own if color is not None]
    if len(set(known)) < len(labels.known):
        return distinct
    return np.array([distinct[index] if color is None else color for index, color in enumerate(own)], np.uint8)


def colors_of_indices(labels: LabelIds) -> npt.NDArray[np.uint8]:
    """Return the color of every palette index, (256, 3); classes without a stated color get distinct ones."""
    colors = np.zeros((_LARGEST_BYTE + 1, 3), np.uint8)
    if labels.palette is None:
        for index, color in zip(labels.ids, class_colors(labels), strict=True):
            if isinstance(index, int):
                colors[index] = color
        return colors
    colors[: len(labels.palette)] = labels.palette
    return colors


def distinct_colors(number: int) -> npt.NDArray[np.uint8]:
    """Return colors that differ well between neighbors, (number, 3): hues by the golden ratio, in three shades.

    Example:
        >>> distinct_colors(2).tolist()
        [[230, 46, 46], [64, 99, 184]]
    """
    index = np.arange(number)
    hue, shade = index * 0.618033988749895 % 1, index % 3
    saturation, value = np.array([0.8, 0.65, 0.9])[shade], np.array([0.9, 0.72, 0.55])[shade]
    # The distance of each channel's hue from the color's own, as in the usual hexagon of hues.
    distance = np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    channels = value[:, None] * (1 - saturation[:, None] * (1 - distance.clip(0, 1)))
    return np.asarray((channels * 255 + 0.5).astype(np.uint8))


def _at(palette: tuple[Color, ...], index: object) -> Color | None:
    return palette[index] if isinstance(index, int) and index < len(palette) else None


def _palette(records: Iterable[Record]) -> tuple[Color, ...] | None:
    """Return the colors of the first label map; None if it is not an image with a palette."""
    first = next(iter(records), None)
    if first is None:
        return None
    try:
        with open_image(first.label_source) as image:
            if image.mode != "P":
                return None
            return tuple((int(red), int(green), int(blue)) for red, green, blue in palette_of(image))
    except DataError:
        return None  # an array, which has no palette
