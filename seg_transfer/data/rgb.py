"""Decodes image files to RGB."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from seg_transfer.data.bands import driver_of, read_header
from seg_transfer.data.cells import Cell, Source
from seg_transfer.data.channels import needs_bands, rgb_of_bands, rgb_of_channels
from seg_transfer.data.decoding import any_size, open_image
from seg_transfer.data.numbers import SIXTEEN_BIT_MODES
from seg_transfer.data.orientation import exif_orientation, stored_window, swaps_sides, tiff_orientation, upright
from seg_transfer.data.record import ImageReading, Window
from seg_transfer.data.scenes import open_tile
from seg_transfer.errors import DataError

_AS_STORED = ImageReading()


def read_rgb(path: Source, reading: ImageReading = _AS_STORED, window: Window | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image to RGB.

    Alpha is dropped without blending. Without a stated range, 16-bit numbers are reduced to their high byte.

    Args:
        path: The file.
        reading: Orientation, bands and range.
        window: The part to decode, (top, left, height, width), in pixels of the upright image; None means all of it.

    Returns:
        (H, W, 3), 0 to 255.

    Raises:
        DataError: The file is missing, truncated or of an unknown format, or does not fit `reading`.
    """
    by_band = needs_bands(path, reading)
    orientation = _orientation(path, reading, by_band)
    if window is not None:
        window = stored_window(window, orientation, *_stored_size(path, by_band))
    pixels = rgb_of_bands(path, reading, window) if by_band else _rgb_of_image(path, reading, window)
    return pixels if orientation == 1 else upright(pixels, orientation)


def read_size(path: Source, reading: ImageReading = _AS_STORED) -> tuple[int, int]:
    """Return (height, width), in pixels, of what `read_rgb` returns, from the header of the file."""
    by_band = needs_bands(path, reading)
    height, width = _stored_size(path, by_band)
    return (width, height) if swaps_sides(_orientation(path, reading, by_band)) else (height, width)


def _orientation(path: Source, reading: ImageReading, by_band: bool) -> int:
    if by_band and driver_of(path) == "GTiff":
        return tiff_orientation(path)
    return exif_orientation(path) if reading.exif == "apply" else 1


def _stored_size(path: Source, by_band: bool) -> tuple[int, int]:
    if by_band:
        return read_header(path).size
    with _naming_what_to_state(path), any_size(), open_image(path) as image:
        return image.height, image.width


def _rgb_of_image(path: Source, reading: ImageReading, window: Window | None) -> npt.NDArray[np.uint8]:
    # Tables have no tiles.
    with (
        _naming_what_to_state(path),
        open_image(path) if window is None or isinstance(path, Cell) else open_tile(path, window) as image,
    ):
        if reading.bands is None and reading.range is None:
            return _as_rgb(image, path)
        return rgb_of_channels(image, path, reading)


@contextmanager
def _naming_what_to_state(path: Source) -> Iterator[None]:
    """Replace the error for a TIFF file that Pillow cannot open, because of its bands or type of number."""
    try:
        yield
    except DataError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError) or driver_of(path) != "GTiff":
            raise
        raise DataError(
            f"{path}: is a TIFF file that can only be read by band; state the numbers of the red, green and blue band "
            "as images.bands (--bands 1,2,3), and the values of black and white as images.range (--range) unless it "
            "has 8 bits"
        ) from error


def _as_rgb(image: Image.Image, path: Source) -> npt.NDArray[np.uint8]:
    if image.mode in SIXTEEN_BIT_MODES:
        gray = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError(
            f"{path}: floating-point pixels have no agreed range; state the values of black and white as images.range "
            "(--range), or store the image with 8 or 16 bits"
        )
    if image.mode == "RGB":  # converting would only copy it
        image.load()
        return np.array(image)
    # Pillow warns when a palette with transparency is converted to RGB directly.
    is_opaque = "transparency" not in image.info
    return np.array(image.convert("RGB") if is_opaque else image.convert("RGBA").convert("RGB"))
