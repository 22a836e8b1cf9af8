"""What one image shows: mostly its header; deep images are decoded, because their range is not in the header."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from seg_transfer.data.bands import driver_of, read_bands, read_header
from seg_transfer.data.cells import Source
from seg_transfer.data.decoding import any_size, open_image
from seg_transfer.data.numbers import stored_bits
from seg_transfer.data.orientation import exif_orientation
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

_SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 277, 338
# (bands, alpha) of Pillow's modes; all others have three bands, or one.
_BANDS: Mapping[str, tuple[int, bool]] = {"LA": (1, True), "PA": (3, True), "RGBA": (3, True), "CMYK": (3, False)}
_THREE_BANDS = ("RGB", "P", "YCbCr", "LAB", "HSV", "RGBX")
# Constant images stay constant however small they are drawn; a fine pattern could vanish in a smaller one than this.
_THUMBNAIL = (256, 256)
# Any photograph has more colors than this; label maps have fewer.
_MAX_COLORS = 64
MAX_PIXELS = 1 << 26
"""Larger images and label maps are scenes, of which a part is looked at."""
_PART = 4096
UNREADABLE = 0
"""The orientation of an image whose EXIF data are damaged."""


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """What one image shows.

    Attributes:
        file: Its name in messages.
        format: "PNG", "JPEG", "TIFF", ...
        size: (height, width), as stored, before any rotation.
        mode: Pillow's mode, or the data type of a file that only GDAL reads.
        bits: Bits per pixel and band.
        n_bands: Number of bands except alpha.
        has_alpha: Whether there is an alpha channel.
        orientation: EXIF orientation, 1 to 8; 1 means as stored, 0 that the EXIF data are damaged.
        is_float: Whether pixels are floats.
        lowest: Lowest finite value, for more than 8 bits.
        highest: Highest finite value, for more than 8 bits.
        is_constant: Whether all pixels have one color; None if that was not looked at.
        n_colors: Number of colors, if these are few; None if they are many, or were not counted.
    """

    file: str
    format: str
    size: tuple[int, int]
    mode: str
    bits: int
    n_bands: int
    has_alpha: bool = False
    orientation: int = 1
    is_float: bool = False
    lowest: float | None = None
    highest: float | None = None
    is_constant: bool | None = None
    n_colors: int | None = None


def look_at_image(
    source: Source, name: str | None = None, *, check_constant: bool = True, check_range: bool = True
) -> ImageEvidence:
    """Read the header of an image, and its pixels where they are needed.

    Args:
        source: The file, on disk or in a table.
        name: What messages call it; by default the path.
        check_constant: Whether to decode an image of 8 bits, to see whether it is constant.
        check_range: Whether to decode an image of more bits, to see which values it holds.

    Returns:
        What it shows; of a scene, the lowest and highest value at its center.

    Raises:
        DataError: It cannot be decoded, or needs a library that is not installed.
    """
    name = name or str(source)
    if not _pillow_opens(source):
        return _by_bands(source, name, check_range=check_range)
    with any_size(), open_image(source, name) as image:
        n_bands, has_alpha = _BANDS.get(image.mode, (3 if image.mode in _THREE_BANDS else 1, False))
        if isinstance(image, TiffImageFile) and 0 in (extra := image.tag_v2.get(_EXTRA_SAMPLES, ())):
            # Pillow drops such bands, which are something else than alpha.
            has_alpha = any(extra)
            n_bands = image.tag_v2[_SAMPLES_PER_PIXEL] - has_alpha
        is_large = image.height * image.width > MAX_PIXELS
        about: dict[str, Any] = {"format": image.format or "unknown", "mode": image.mode, "bits": stored_bits(image)}
        size, is_float = (image.height, image.width), image.mode == "F"
        if about["bits"] > 8 and check_range:
            about |= _extremes_of_deep(image, source, n_bands)
        elif about["bits"] <= 8 and check_constant and not is_large:
            about["n_colors"] = _n_colors(image)
            about["is_constant"] = about["n_colors"] == 1
    orientation = _orientation(source)
    return ImageEvidence(
        name, size=size, n_bands=n_bands, has_alpha=has_alpha, is_float=is_float, orientation=orientation, **about
    )


def look_at_images(sources: Mapping[str, Source]) -> tuple[ImageEvidence, ...]:
    """Look at several images, by name; pixels of 8 bits are decoded only until one image is not constant."""
    seen: list[ImageEvidence] = []
    may_be_constant = True
    for name, source in sources.items():
        seen.append(look_at_image(source, name, check_constant=may_be_constant))
        may_be_constant = may_be_constant and seen[-1].is_constant is not False
    return tuple(seen)


def look_at_images_of(records: Sequence[Record]) -> list[ImageEvidence]:
    """Look at the images of records, each file once; the size of a tile is its own."""
    seen = look_at_images({str(record.image_source): record.image_source for record in records})
    image_of = {image.file: image for image in seen}
    images = [image_of[str(record.image_source)] for record in records]
    sizes = [record.window[2:] if record.window else image.size for record, image in zip(records, images, strict=True)]
    return [replace(image, size=size) for image, size in zip(images, sizes, strict=True)]


def _pillow_opens(source: Source) -> bool:
    """Whether Pillow knows the file; it does not know TIFF files of many bands. Other errors are left to the reader."""
    if driver_of(source) != "GTiff":
        return True
    try:
        with any_size(), open_image(source):
            return True
    except DataError:
        return False


def _by_bands(source: Source, name: str, *, check_range: bool) -> ImageEvidence:
    header = read_header(source)
    has_alpha = "alpha" in header.meanings
    first = read_bands(source, [1], (0, 0, 1, 1)).values.dtype
    about = _extremes_of_part(source, header.size) if first.itemsize > 1 and check_range else {}
    return ImageEvidence(
        name, "TIFF", header.size, str(first), 8 * first.itemsize, header.n_bands - has_alpha, has_alpha,
        is_float=first.kind == "f", **about,
    )  # fmt: skip


def _extremes_of_deep(image: Image.Image, source: Source, n_bands: int) -> dict[str, Any]:
    if image.height * image.width > MAX_PIXELS:
        return _extremes_of_part(source, (image.height, image.width))
    return _extremes(np.asarray(image)) if n_bands == 1 else _extremes_of_high_bytes(image)


def _extremes_of_part(source: Source, size: tuple[int, int]) -> dict[str, Any]:
    """Return the extremes of all bands; of a scene, those of its center."""
    height, width = (min(side, _PART) for side in size)
    window = ((size[0] - height) // 2, (size[1] - width) // 2, height, width)
    part = read_bands(source, range(1, read_header(source).n_bands + 1), window)
    values = part.values if part.nodata is None else part.values[part.values != part.nodata][None]
    # A part says nothing about the whole.
    return _extremes(values) if (height, width) == size else _extremes(values) | {"is_constant": None}


def _extremes(pixels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the lowest and highest finite value, and whether each band (last two axes) is constant."""
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if finite.size == 0:
        return {"is_constant": True}
    bands = pixels.reshape(-1, pixels.shape[-2] * pixels.shape[-1])
    constant = bool((bands == bands[:, :1]).all())
    return {"lowest": float(finite.min()), "highest": float(finite.max()), "is_constant": constant}


def _extremes_of_high_bytes(image: Image.Image) -> dict[str, Any]:
    """Bound the values of several 16-bit channels, of which Pillow keeps the high bytes: enough for the used bits."""
    pixels = np.asarray(image.convert("RGB"))
    # Low bytes may differ where high ones do not, as in dark images.
    is_constant = None if (pixels == pixels[0, 0]).all() else False
    return {"lowest": 256.0 * pixels.min(), "highest": 256.0 * pixels.max() + 255, "is_constant": is_constant}


def _n_colors(image: Image.Image) -> int | None:
    """Return the number of colors; None if they are many."""
    # JPEG files are decoded at a fraction of their size; the pixels of other formats cannot be read in part.
    image.draft("RGB", _THUMBNAIL)
    colors = image.convert("RGBA" if "transparency" in image.info else "RGB").convert("RGB").getcolors(_MAX_COLORS)
    return len(colors) if colors else None


def _orientation(source: Source) -> int:
    try:
        return exif_orientation(source)
    except DataError:
        return UNREADABLE
