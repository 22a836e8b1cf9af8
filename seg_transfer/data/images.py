"""Decodes the images and label maps of records.

EXIF orientation is not applied unless the manifest says so, and never to label maps: they usually refer to the stored
pixels, and a rotated image would no longer match its label map.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.data.rgb import read_rgb, read_size
from seg_transfer.errors import DataError

LabelMap = npt.NDArray[np.uint8 | np.uint16]


def read_image(record: Record) -> npt.NDArray[np.uint8]:
    """Decode the image of a record to RGB, as its ``reading`` says.

    Returns:
        (H, W, 3), 0 to 255.

    Raises:
        DataError: The file is missing, truncated or of an unknown format.
    """
    return read_rgb(record.image_source, record.reading, record.window)


def image_size(record: Record) -> tuple[int, int]:
    """Return (height, width), in pixels, of what `read_image` returns, from the header of the file."""
    return record.window[2:] if record.window else read_size(record.image_source, record.reading)


def read_label(record: Record, manifest: DatasetManifest) -> LabelMap:
    """Decode a label map to class indices.

    Args:
        record: The record.
        manifest: Manifest of its dataset, which describes the encoding.

    Returns:
        (H, W), uint8, or uint16 for more than 255 classes; ignored pixels are ``manifest.ignore_index``.

    Raises:
        DataError: The file cannot be read, or holds a value that the manifest neither lists nor ignores; the message
            names the value, and the row and column (from 0) of its first pixel.
    """
    return to_classes(read_raw(record, manifest), record, manifest)


def read_raw(record: Record, manifest: DatasetManifest) -> npt.NDArray[np.integer]:
    """Decode the raw values of a label map, (H, W); raises DataError if the file cannot be read."""
    if record.window is None:
        return manifest.labels.read_raw(record)
    return manifest.labels.read_tile(record, record.window, read_size(record.image, record.reading))


def to_classes(raw: npt.NDArray[np.integer], record: Record, manifest: DatasetManifest) -> LabelMap:
    """Turn the raw values of a record's label map, (H, W), into class indices; see `read_label`."""
    classes = manifest.raw_classes()
    known = np.array(sorted(classes))
    ignored = manifest.ignore_index
    index = np.array([classes[value] for value in known.tolist()], np.min_scalar_type(ignored))
    # Label maps consist of long runs of equal values; one lookup per run is as fast as a dense table.
    flat = raw.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    runs = flat[starts].astype(np.int64)
    nearest = np.searchsorted(known, runs).clip(max=len(known) - 1)
    listed = known[nearest] == runs
    if manifest.labels.unlisted == "error" and not listed.all():
        raise _unlisted_value(record, raw, int(starts[listed.argmin()]), manifest)
    if manifest.labels.unlisted == "nearest" and not listed.all():
        nearest[~listed] = manifest.labels.nearest(runs[~listed], known)
        listed[:] = True
    label = np.repeat(np.where(listed, index[nearest], index.dtype.type(ignored)), np.diff(starts, append=flat.size))
    return label.reshape(raw.shape)


def read_pair(record: Record, manifest: DatasetManifest) -> tuple[npt.NDArray[np.uint8], LabelMap]:
    """Decode the image (H, W, 3) and label map (H, W) of a record; raises DataError if their sizes differ."""
    image, label = read_image(record), read_label(record, manifest)
    record.check_sizes(label.shape, image.shape[:2])
    return image, label


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


def _unlisted_value(
    record: Record, raw: npt.NDArray[np.integer], position: int, manifest: DatasetManifest
) -> DataError:
    row, column = divmod(position, raw.shape[1])
    top, left = record.window[:2] if record.window else (0, 0)
    labels, value = manifest.labels, int(raw[row, column])
    return DataError(
        f"{record.label_name}: {labels.describe(value)} at row {top + row}, column {left + column} is not in the label "
        f"map of {manifest.name}; list it in {labels.listed_in} or labels.ignore, or set "
        "labels.unlisted: ignore or nearest"
    )
