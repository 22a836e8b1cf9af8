"""Decodes and resizes images and label maps.

EXIF orientation is not applied: label maps refer to the stored pixels and have no orientation, so a rotated image
would no longer match its label map.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.decoding import SIXTEEN_BIT_MODES, open_image
from seg_transfer.data.fields import IGNORE
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import Record
from seg_transfer.errors import DataError


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image to RGB.

    Alpha is dropped without blending, and 16-bit gray is reduced to its high byte.

    Returns:
        (H, W, 3), 0 to 255.

    Raises:
        DataError: The file is missing, truncated or of an unknown format.
    """
    with open_image(path) as image:
        if image.mode in SIXTEEN_BIT_MODES:
            gray = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(gray[..., None], 3, axis=2)
        if image.mode == "F":
            raise DataError(f"{path}: floating-point pixels have no agreed range; store the image with 8 or 16 bits")
        # Pillow warns when a palette with transparency is converted to RGB directly.
        is_opaque = "transparency" not in image.info
        return np.array(image.convert("RGB") if is_opaque else image.convert("RGBA").convert("RGB"))


def read_label(path: Path, manifest: DatasetManifest) -> npt.NDArray[np.uint8]:
    """Decode a label map to class indices.

    Args:
        path: The file.
        manifest: Manifest of its dataset, which describes the encoding.

    Returns:
        (H, W); ignored pixels are `seg_transfer.data.fields.IGNORE` = 255.

    Raises:
        DataError: The file cannot be read, or holds a value that the manifest neither lists nor ignores; the message
            names the value, and the row and column (from 0) of its first pixel.
    """
    raw = manifest.labels.read_raw(path)
    classes = manifest.raw_classes()
    known = np.array(sorted(classes))
    index = np.array([classes[value] for value in known.tolist()], np.uint8)
    # Label maps consist of long runs of equal values; one lookup per run is as fast as a dense table.
    flat = raw.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    runs = flat[starts].astype(np.int64)
    nearest = np.searchsorted(known, runs).clip(max=len(known) - 1)
    listed = known[nearest] == runs
    if manifest.labels.unlisted == "error" and not listed.all():
        raise _unlisted_value(path, raw, int(starts[listed.argmin()]), manifest)
    label = np.repeat(np.where(listed, index[nearest], np.uint8(IGNORE)), np.diff(starts, append=flat.size))
    return label.reshape(raw.shape)


def read_pair(record: Record, manifest: DatasetManifest) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode the image (H, W, 3) and label map (H, W) of a record; raises DataError if their sizes differ."""
    image, label = read_image(record.image), read_label(record.label, manifest)
    if image.shape[:2] != label.shape:
        sizes = [" x ".join(map(str, size)) for size in (image.shape[:2], label.shape)]
        raise DataError(
            f"{record.label}: {sizes[1]} (height x width), but its image {record.image} is {sizes[0]}; "
            "a label map needs one value per pixel: replace one of the files or exclude both"
        )
    return image, label


def read_size(path: Path) -> tuple[int, int]:
    """Read (height, width), in pixels, from the header of an image file."""
    with open_image(path) as image:
        return image.height, image.width


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Scale a size so that its shorter side becomes ``short_side``, rounding halves up.

    Returns:
        (height, width), in pixels.

    Example:
        >>> short_side_size(227, 320, 144)
        (144, 203)
    """
    shorter = min(height, width)
    new_height, new_width = ((2 * side * short_side + shorter) // (2 * shorter) for side in (height, width))
    return new_height, new_width


def resize_to_short_side(image: npt.NDArray[np.uint8], short_side: int) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) so that its shorter side is ``short_side``: bilinear, antialiased when shrinking."""
    height, width = short_side_size(image.shape[0], image.shape[1], short_side)
    if (height, width) == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _unlisted_value(path: Path, raw: npt.NDArray[np.integer], position: int, manifest: DatasetManifest) -> DataError:
    row, column = divmod(position, raw.shape[1])
    labels = manifest.labels
    return DataError(
        f"{path}: {labels.describe(int(raw[row, column]))} at row {row}, column {column} is not in the label map of "
        f"{manifest.name}; list it in {labels.listed_in} or labels.ignore, or set labels.unlisted: ignore"
    )
