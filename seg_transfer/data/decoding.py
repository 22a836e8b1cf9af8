"""Opens image files with Pillow, and reads the raw values of label maps."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.cells import Source
from seg_transfer.data.numbers import numbers_in, read_array, refuse_deep_channels, refuse_frames
from seg_transfer.errors import DataError

# Files of unknown origin are only opened as one of these; Pillow's other decoders start programs (EPS) or are rare.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ARRAY_SUFFIXES = (".npy", ".npz")
_COLOR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
MAX_DECODED_PIXELS = 1 << 30
"""A file of a few kilobytes can claim any size; to decode this many pixels takes 4 GB."""
# What this thread may open instead of images up to Pillow's limit.
_max_pixels: ContextVar[float | None] = ContextVar("max_pixels", default=None)


class _PillowLimit:
    """Pillow's limit is a setting of the process, so it is lifted while any thread needs it, and checked here."""

    def __init__(self) -> None:
        self._lock, self._users, self._limit = Lock(), 0, Image.MAX_IMAGE_PIXELS

    def lift(self, users: int) -> None:
        """Add 1 or -1 to the number of users, and set or restore Pillow's limit."""
        with self._lock:
            if self._users == 0:
                self._limit = Image.MAX_IMAGE_PIXELS
            self._users += users
            Image.MAX_IMAGE_PIXELS = None if self._users else self._limit

    @property
    def pixels(self) -> int | None:
        """The number of pixels above which Pillow refuses an image."""
        with self._lock:
            limit = self._limit if self._users else Image.MAX_IMAGE_PIXELS
        return 2 * limit if limit else None


_pillow_limit = _PillowLimit()


@contextmanager
def any_size(max_pixels: float = math.inf) -> Iterator[None]:
    """Let `open_image` open images above Pillow's limit in a block.

    Args:
        max_pixels: The limit in the block; it needs none to read headers or parts of images.
    """
    token = _max_pixels.set(max_pixels)
    _pillow_limit.lift(1)
    try:
        yield
    finally:
        _pillow_limit.lift(-1)
        _max_pixels.reset(token)


def check_pixels(name: str, image: Image.Image, max_pixels: float = MAX_DECODED_PIXELS) -> None:
    """Raise DataError if an image has too many pixels to be decoded as a whole."""
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise DataError(
            f"{name}: {pixels} pixels, but at most {max_pixels:.0f} can be decoded at once; store it as a tiled TIFF "
            'file, which is read in parts (pip install "seg_transfer[formats]")'
        )


@contextmanager
def open_image(source: Source | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """Open an image for the duration of a block, which may decode it.

    Args:
        source: The file, on disk or in a table, or its content.
        name: What messages call it; by default the path.

    Raises:
        DataError: Pillow cannot open or decode the file, or the image is larger than Pillow's limit outside of
            `any_size`; the message names the file.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    try:
        file = BytesIO(source) if isinstance(source, bytes) else source if isinstance(source, Path) else source.open()
        with Image.open(file, formats=_FORMATS) as image:
            _check_limit(name, image)
            _refuse_misread_bmp(name, image)
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{name}: the file does not exist; add it or exclude it") from error
    except Image.DecompressionBombError as error:
        reason, limit = " ".join(str(error).split()), _pillow_limit.pixels
        raise DataError(
            f"{name}: cannot be decoded ({reason}); read it as tiles: add tiles: {{above: {limit}}} to the manifest, "
            f"or --max-pixels {limit}"
        ) from error
    # Pillow's decoders raise errors of many types.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be decoded ({reason}); replace the file or exclude it") from error


def _refuse_misread_bmp(name: str, image: Image.Image) -> None:
    """Refuse BMP files with a gray palette and other bits than Pillow takes them to have: it would mix up pixels."""
    if image.format != "BMP" or image.mode not in ("1", "L"):
        return
    bits = 1 if image.mode == "1" else 8
    for codec, _, _, arguments in image.tile:  # type: ignore[attr-defined]
        bytes_per_row = (image.width * bits + 31) // 32 * 4
        if codec == "raw" and arguments[1] != bytes_per_row:
            raise DataError(f"{name}: a BMP file with a gray palette of these bits cannot be decoded; store it as PNG")


def _check_limit(name: str, image: Image.Image) -> None:
    limit, pixels, allowed = _pillow_limit.pixels, image.width * image.height, _max_pixels.get()
    if allowed is not None:
        check_pixels(name, image, allowed)
    elif limit is not None and pixels > limit:  # while another thread has lifted Pillow's limit
        raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds limit of {limit} pixels")


def read_raw_values(path: Source, encoding: str) -> npt.NDArray[np.integer]:
    """Decode the raw values of a label map that is an image, or an array for the encodings of numbers.

    Args:
        path: The file.
        encoding: "id" or "id16": the number of every pixel as it is stored, in gray images of any depth, in colors with
            R = G = B, or in arrays. "palette": palette indices, or the numbers of files without a palette. "rgb":
            colors.

    Returns:
        (H, W); a color is encoded as R + 256 G + 65536 B.

    Raises:
        DataError: The file cannot be decoded or does not fit the encoding.
    """
    if isinstance(path, Path) and path.suffix.lower() in ARRAY_SUFFIXES:
        return _without_colors(path, encoding)
    with open_image(path) as image:
        return raw_values(image, str(path), encoding)


def raw_values(image: Image.Image, name: str, encoding: str) -> npt.NDArray[np.integer]:
    """Return the raw values of an open image, or of a part of one; see `read_raw_values`."""
    refuse_frames(image, name)
    if encoding == "rgb":
        return read_colors(image, name)
    if encoding == "palette" and image.mode == "P":
        return np.asarray(image)
    return numbers_in(image, name)


def read_colors(image: Image.Image, name: str) -> npt.NDArray[np.integer]:
    """Decode the color of every pixel as R + 256 G + 65536 B, (H, W); alpha is dropped.

    Raises:
        DataError: The image has 16 bits per channel, or no colors.
    """
    if image.mode not in _COLOR_MODES:
        raise DataError(
            f"{name}: image mode {image.mode!r} does not fit labels.encoding 'rgb'; declare encoding: id, or store "
            "RGB with 8 bits per channel"
        )
    refuse_deep_channels(image, name)
    return np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF


def _without_colors(path: Path, encoding: str) -> npt.NDArray[np.integer]:
    if encoding == "rgb":
        raise DataError(f"{path}: an array holds numbers, not colors; declare labels.encoding: id")
    return read_array(path)
