"""Decoding of images and label maps, with Pillow.

EXIF orientation is applied to neither: label maps are drawn on the pixels as stored and carry no orientation, so a
rotated image would no longer lie under its label map.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.labels import ColourLabels, Labels, MatLabels, PanopticLabels
from seg_transfer.data.manifest import IGNORE, DatasetManifest
from seg_transfer.data.matlab import read_matrix
from seg_transfer.data.records import Record
from seg_transfer.data.segments import categories_of
from seg_transfer.errors import DataError

# Some of Pillow's other decoders start programs (EPS) or are seldom exercised: files of unknown origin get these only.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I")
_LABEL_MODES = {
    "id": ("L", "1"),
    "palette": ("P", "L"),  # datasets that mix both mean the same by a palette index and a grey value
    "id16": _SIXTEEN_BIT,
    "rgb": ("RGB", "RGBA", "P", "L"),
}


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image to RGB, (H, W, 3), 0 to 255.

    Alpha is dropped and the colours below it kept; 16-bit grey keeps its high byte. DataError names a file that is
    missing, truncated or of an unknown kind.
    """
    with _opened(path) as image:
        if image.mode in _SIXTEEN_BIT:
            grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if image.mode == "F":
            raise DataError(f"{path}: floating-point pixels have no agreed range; store the image with 8 or 16 bits")
        # Pillow warns when a palette with transparency goes to RGB directly.
        straight = "transparency" not in image.info
        return np.array(image.convert("RGB") if straight else image.convert("RGBA").convert("RGB"))


def read_label(path: Path, manifest: DatasetManifest) -> npt.NDArray[np.uint8]:
    """Decode a label map to class indices, (H, W), 255 = ignore.

    DataError names file, value, row and column (from 0) of the first value that the manifest does not list, unless it
    says ``unlisted: ignore``.
    """
    raw = _values_of(path, manifest.labels)
    classes = manifest.raw_classes()
    known = np.array(sorted(classes))
    index = np.array([classes[value] for value in known.tolist()], np.uint8)
    # Label maps are long runs of one value: looking up one value of each run is as fast as a dense table, for any code.
    flat = raw.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    runs = flat[starts].astype(np.int64)
    nearest = np.searchsorted(known, runs).clip(max=len(known) - 1)
    listed = known[nearest] == runs
    if manifest.labels.unlisted == "error" and not listed.all():
        raise _unlisted_value(path, raw, int(starts[listed.argmin()]), manifest)
    label = np.repeat(np.where(listed, index[nearest], np.uint8(IGNORE)), np.diff(starts, append=flat.size))
    return label.reshape(raw.shape)


def label_encoding(path: Path) -> str:
    """The encoding of a manifest that fits a label map; grey values count as palette indices, for both may mix."""
    with _opened(path) as image:
        fitting = [name for name in ("palette", "id", "id16", "rgb") if image.mode in _LABEL_MODES[name]]
        if not fitting:
            raise DataError(f"{path}: a file of mode {image.mode!r} is no label map; store it with 8 or 16 bits")
        return fitting[0]


def read_pair(record: Record, manifest: DatasetManifest) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Image (H, W, 3) and label map (H, W) of a record; DataError if they differ in size."""
    image, label = read_image(record.image), read_label(record.label, manifest)
    if image.shape[:2] != label.shape:
        sizes = [" x ".join(map(str, size)) for size in (image.shape[:2], label.shape)]
        raise DataError(
            f"{record.label}: {sizes[1]} (height x width), its image {record.image} is {sizes[0]}; "
            "a label map needs one value for every pixel: replace one of the files or exclude both"
        )
    return image, label


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header; no pixel is decoded."""
    with _opened(path) as image:
        return image.height, image.width


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side ``short_side`` and the longer one in proportion, halves rounded up.

    >>> short_side_size(227, 320, 144)
    (144, 203)
    """
    shorter = min(height, width)
    new_height, new_width = ((2 * side * short_side + shorter) // (2 * shorter) for side in (height, width))
    return new_height, new_width


def resize_to_short_side(image: npt.NDArray[np.uint8], short_side: int) -> npt.NDArray[np.uint8]:
    """Resize (H, W, 3) so that its shorter side is ``short_side``: bilinear, antialiased when it shrinks."""
    height, width = short_side_size(image.shape[0], image.shape[1], short_side)
    if (height, width) == image.shape[:2]:
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def read_raw_values(path: Path, encoding: str) -> npt.NDArray[np.integer]:
    """Raw values of a label map, (H, W); a colour becomes the number R + 256 G + 65536 B.

    DataError where the file does not fit the encoding that a manifest declares.
    """
    with _opened(path) as image:
        if image.mode not in _LABEL_MODES[encoding]:
            fitting = [name for name, modes in _LABEL_MODES.items() if image.mode in modes]
            advice = f"declare encoding: {' or '.join(fitting)}" if fitting else "store it with 8 or 16 bits"
            raise DataError(
                f"{path}: a file of mode {image.mode!r} does not fit labels.encoding {encoding!r}; {advice}"
            )
        if encoding == "rgb":
            return np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
        return np.asarray(image) if image.mode != "1" else np.asarray(image, np.uint8)


def _values_of(path: Path, labels: Labels) -> npt.NDArray[np.integer]:
    if isinstance(labels, MatLabels):
        return read_matrix(path, labels.variable)
    if isinstance(labels, PanopticLabels):
        return categories_of(path, read_raw_values(path, "rgb"))
    raw = read_raw_values(path, labels.encoding)
    if isinstance(labels, ColourLabels) and path.stem in labels.crop:
        height, width = labels.crop[path.stem]
        return raw[:height, :width]
    return raw


def _unlisted_value(path: Path, raw: npt.NDArray[np.integer], position: int, manifest: DatasetManifest) -> DataError:
    row, column = divmod(position, raw.shape[1])
    code = int(raw[row, column])
    rgb = manifest.labels.encoding == "rgb"
    value = f"colour ({code % 256}, {code // 256 % 256}, {code // 65536})" if rgb else f"value {code}"
    place = "labels.colours" if rgb else "labels.map"
    return DataError(
        f"{path}: {value} at row {row}, column {column} is not in the label map of {manifest.name}; "
        f"list it in {place} or labels.ignore, or say labels.unlisted: ignore"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open image; whatever Pillow cannot read, now or when it decodes, becomes a DataError that names the file."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; add it or exclude it") from error
    # Pillow's decoders raise whatever their parser stumbled over.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be decoded ({reason}); replace the file or exclude it") from error
