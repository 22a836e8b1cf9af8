"""What the pixels of one mask, or of one image, show: plain data, without conclusions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.cells import Source
from seg_transfer.data.decoding import ARRAY_SUFFIXES, any_size, open_image, read_colors
from seg_transfer.data.inspection.answers import Color
from seg_transfer.data.inspection.image_evidence import MAX_PIXELS, ImageEvidence, look_at_image, look_at_images
from seg_transfer.data.inspection.statistics import ValueCount, count_values, edges_of
from seg_transfer.data.numbers import (
    numbers_in,
    palette_of,
    read_array,
    refuse_alpha,
    refuse_deep_channels,
    refuse_frames,
    stored_bits,
)
from seg_transfer.data.record import Record
from seg_transfer.data.rgb import read_size
from seg_transfer.data.scenes import cut, open_tile
from seg_transfer.errors import DataError

__all__ = ["ImageEvidence", "Kind", "MaskEvidence", "look_at_image", "look_at_images", "look_at_mask"]

Kind = Literal["gray", "palette", "colors", "array"]


@dataclass(frozen=True, slots=True)
class MaskEvidence:
    """What one mask shows.

    Attributes:
        file: Its name in messages.
        format: "PNG", "JPEG", "NPY", ...
        kind: "gray" (one number per pixel), "palette" (indices of colors that are not their own gray), "colors" (some
            pixel with R != G != B), or "array".
        bits: Bits per pixel and channel, as stored.
        size: (height, width).
        values: Number, palette index or color (R + 256 G + 65536 B) -> its pixels; the most frequent ones, if there are
            very many.
        n_values: Number of distinct values.
        palette: Palette index -> color, of used indices.
        channels: Number of stored color channels; a gray mask with 3 has R = G = B.
        has_alpha: Whether there is an alpha channel, which is opaque everywhere.
        is_lossy: Whether the file was compressed with loss.
        n_edges: Places where neighbors differ, apart from values that stand for "ignore"; 0 for colors.
        n_steps: Places where neighbors differ by 2 or more; 0 for colors.
        n_blends: Pixels strictly between their two neighbors in a row or column; 0 for colors.
    """

    file: str
    format: str
    kind: Kind
    bits: int
    size: tuple[int, int]
    values: Mapping[int, ValueCount]
    n_values: int
    palette: Mapping[int, Color] = field(default_factory=dict)
    channels: int = 1
    has_alpha: bool = False
    is_lossy: bool = False
    n_edges: int = 0
    n_steps: int = 0
    n_blends: int = 0


def look_at_label(record: Record) -> MaskEvidence:
    """Look at the label map of a record, and at no more than the tile if it is one.

    Args:
        record: The record; its label map is an image or an array.

    Raises:
        DataError: As `look_at_mask`, or the whole label map, of a tile, has another size than its image.
    """
    if record.window is None:
        return look_at_mask(record.label_source)
    name, image_size = str(record.label), read_size(record.image, record.reading)
    if record.label.suffix.lower() in ARRAY_SUFFIXES:
        array = read_array(record.label)
        record.check_sizes(array.shape, image_size)
        return _evidence(cut(array, record.window), name, format="NPY", kind="array")
    # A part has no format of its own.
    with any_size(), open_image(record.label) as scene:
        record.check_sizes((scene.height, scene.width), image_size)
        about = {"format": scene.format or "unknown", "is_lossy": is_lossy(scene, record.label)}
    with open_tile(record.label, record.window) as tile:
        return _of_image(tile, name, about)


def look_at_mask(source: Source | bytes, name: str | None = None) -> MaskEvidence:
    """Decode one mask and count its values; of a scene, those of a part at its center.

    Args:
        source: The file, on disk or in a table, or its content.
        name: What messages call it; by default the path.

    Returns:
        What it shows. A palette of grays that are their own indices counts as gray.

    Raises:
        DataError: It cannot be decoded, is transparent somewhere, or its pixels are no numbers, indices or colors.
    """
    name = name or ("mask" if isinstance(source, bytes) else str(source))
    if isinstance(source, Path | bytes) and Path(name).suffix.lower() in ARRAY_SUFFIXES:
        return _evidence(read_array(source, name), name, format="NPY", kind="array")
    with any_size(), open_image(source, name) as image:
        refuse_frames(image, name)
        about = {"format": image.format or "unknown", "is_lossy": is_lossy(image, source)}
        height, width = image.height, image.width
        if height * width <= MAX_PIXELS:
            return _of_image(image, name, about)
    if not isinstance(source, Path):
        raise DataError(f"{name}: {height} x {width} pixels; store label maps of this size as files, not in a table")
    side = math.isqrt(MAX_PIXELS)
    rows, columns = min(height, side), min(width, side)
    with open_tile(source, ((height - rows) // 2, (width - columns) // 2, rows, columns)) as part:
        return replace(_of_image(part, name, about), size=(height, width))


def _of_image(image: Image.Image, name: str, about: dict[str, object]) -> MaskEvidence:
    bits = stored_bits(image)
    if image.mode in ("P", "PA"):
        return _of_palette(image, name, about)
    if image.mode in ("RGB", "RGBA", "LA"):
        refuse_deep_channels(image, name)
        return _of_channels(image, name, about)
    return _evidence(numbers_in(image, name), name, kind="gray", bits=bits, **about)


def _of_palette(image: Image.Image, name: str, about: dict[str, object]) -> MaskEvidence:
    """Look at a palette image: one with a gray palette holds numbers, and so does any GIF with gray colors."""
    bits = stored_bits(image)
    colors = palette_of(image)
    indices = np.asarray(image if image.mode == "P" else image.getchannel(0))
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    is_gray = bool((colors[used] == colors[used, :1]).all())
    # A GIF has a palette whatever was drawn, so the order of its entries means nothing if they are gray.
    if is_gray and (about["format"] == "GIF" or np.array_equal(colors[used, 0], used)):
        return _evidence(colors[indices, 0], name, kind="gray", bits=8, **about)
    palette = {int(index): _color(colors[index].tolist()) for index in used}
    return _evidence(indices, name, kind="palette", bits=bits, palette=palette, **about)


def _of_channels(image: Image.Image, name: str, about: dict[str, object]) -> MaskEvidence:
    has_alpha = image.mode != "RGB"
    channels = 1 if image.mode == "LA" else 3
    if has_alpha:
        refuse_alpha(np.asarray(image.getchannel("A")), name)
    more = {"channels": channels, "has_alpha": has_alpha, "bits": 8, **about}
    red = np.asarray(image.getchannel(0))
    if channels == 1 or all(np.array_equal(red, np.asarray(image.getchannel(channel))) for channel in (1, 2)):
        return _evidence(red, name, kind="gray", **more)
    return _evidence(read_colors(image, name), name, kind="colors", **more)


def _evidence(raw: npt.NDArray[np.integer], name: str, **about: object) -> MaskEvidence:
    values, n_values = count_values(raw)
    # An order of colors means nothing, and neither does a number beyond the range of ids.
    n_edges, n_steps, n_blends = (0, 0, 0) if about["kind"] == "colors" else edges_of(raw)
    bits = about.pop("bits", raw.dtype.itemsize * 8)
    height, width = raw.shape
    return MaskEvidence(
        file=name, size=(height, width), values=values, n_values=n_values, n_edges=n_edges, n_steps=n_steps,
        n_blends=n_blends, bits=bits, **about,  # type: ignore[arg-type]
    )  # fmt: skip


def _color(channels: list[int]) -> Color:
    red, green, blue = channels
    return red, green, blue


def is_lossy(image: Image.Image, source: Source | bytes) -> bool:
    """Whether an open file holds JPEG data, or the lossy kind of WebP."""
    if image.format == "WEBP":
        if isinstance(source, bytes):
            return b"VP8 " in _chunk_names(source)
        with source.open("rb") as file:
            return b"VP8 " in _chunk_names(file.read())
    return image.format == "JPEG" or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def _chunk_names(content: bytes) -> set[bytes]:
    """Return the names of the chunks of a RIFF file: 'VP8 ' has loss, 'VP8L' has none."""
    names, position = set(), 12
    while position + 8 <= len(content):
        names.add(content[position : position + 4])
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return names
