"""RGB images made of stated bands, and of numbers on a stated range."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.bands import WHITE_IS_ZERO, BandsHeader, driver_of, read_bands, read_header
from seg_transfer.data.cells import Source
from seg_transfer.data.numbers import SIXTEEN_BIT_MODES
from seg_transfer.data.record import ImageReading, Window
from seg_transfer.errors import DataError

# Position in a PNG file of the bit depth and of the color type; type 0 is gray.
_PNG_DEPTH, _PNG_GRAY, _SIXTEEN_BITS = 24, 0, 16
# What GDAL calls bands whose numbers do not grow with red, green or blue light.
_OTHER_MEANINGS = {"palette", "cyan", "magenta", "yellow", "black", "Y", "Cb", "Cr", WHITE_IS_ZERO}
_LARGEST_BYTE = 255
_ROWS_AT_ONCE = 256


def needs_bands(path: Source, reading: ImageReading) -> bool:
    """Whether the bands of a file must be read one by one, because Pillow cannot read what is stated.

    This concerns TIFF files, which may have any number of bands and values without data, and PNG files with 16 bits
    per color, of which Pillow drops the low byte.
    """
    if reading.bands is None and reading.range is None:
        return False
    driver = driver_of(path)
    return driver == "GTiff" or (driver == "PNG" and reading.range is not None and _has_deep_colors(path))


def rgb_of_bands(path: Source, reading: ImageReading, window: Window | None) -> npt.NDArray[np.uint8]:
    """Read the bands that are red, green and blue from a file, or from a part of it, (H, W, 3)."""
    chosen = _bands_of(path, reading, read_header(path))
    bands = read_bands(path, sorted(set(chosen)), window)
    _check_range(path, reading, bands.values.dtype)
    position = {band: index for index, band in enumerate(sorted(set(chosen)))}
    pixels = np.empty((*bands.values.shape[1:], 3), np.uint8)
    for channel, band in enumerate(chosen):
        pixels[..., channel] = to_bytes(bands.values[position[band]], reading.range, bands.nodata)
    return pixels


def rgb_of_channels(image: Image.Image, path: Source, reading: ImageReading) -> npt.NDArray[np.uint8]:
    """Choose the channels of an open image that are red, green and blue, (H, W, 3)."""
    values = _channels(image)
    _check_range(path, reading, values.dtype)
    header = BandsHeader((image.height, image.width), values.shape[2], ())
    chosen = [band - 1 for band in _bands_of(path, reading, header)]
    pixels: npt.NDArray[np.uint8] = to_bytes(values, reading.range)[..., chosen]
    return pixels


def to_bytes(
    values: npt.NDArray[np.generic], value_range: tuple[float, float] | None, nodata: float | None = None
) -> npt.NDArray[np.uint8]:
    """Map numbers linearly to 0 to 255, rounding halves up; NaN and `nodata` become 0.

    Args:
        values: Numbers, of any shape.
        value_range: The numbers that become 0 and 255; numbers beyond are clipped. None means 0 to 255 for 8 bits, and
            the high byte for 16 bits.
        nodata: The number of pixels without data.

    Example:
        >>> to_bytes(np.array([-5, 0, 1023, 4095, 5000]), (0, 4095)).tolist()
        [0, 0, 64, 255, 255]
    """
    if value_range is None:
        return (values if values.dtype == np.uint8 else values.astype(np.uint16) >> 8).astype(np.uint8)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        # One look-up per pixel; the table is in the order of the numbers' bits.
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        numbers = np.arange(np.iinfo(unsigned).max + 1).astype(unsigned).view(values.dtype.newbyteorder("="))
        table = _scaled(numbers, value_range, nodata)
        pixels: npt.NDArray[np.uint8] = table[values.astype(numbers.dtype).view(unsigned)]
        return pixels
    # Float64 takes eight times the memory of the result, so a few rows are scaled at a time.
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        scaled[rows] = _scaled(values[rows], value_range, nodata)
    return scaled


def _scaled(
    values: npt.NDArray[np.generic], value_range: tuple[float, float], nodata: float | None
) -> npt.NDArray[np.uint8]:
    black, white = value_range
    numbers = values.astype(np.float64)
    missing = np.isnan(numbers)
    if nodata is not None:
        # The nodata value of a float32 band is a float32 number too.
        missing |= values == values.dtype.type(nodata) if values.dtype.kind == "f" else numbers == nodata
    clipped = np.where(missing, black, numbers).clip(black, white)
    return np.floor((clipped - black) / (white - black) * _LARGEST_BYTE + 0.5).astype(np.uint8)


def _has_deep_colors(path: Source) -> bool:
    with path.open("rb") as file:
        file.seek(_PNG_DEPTH)
        head = file.read(2)
    return len(head) == 2 and head[0] == _SIXTEEN_BITS and head[1] != _PNG_GRAY


def _channels(image: Image.Image) -> npt.NDArray[np.generic]:
    """Return the channels of an image as stored, (H, W, C); a palette or CMYK gives R, G and B."""
    if image.mode in SIXTEEN_BIT_MODES:
        return np.asarray(image)[..., None]
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    if image.mode in ("LA", "RGBA"):
        return np.asarray(image)
    return np.asarray(image.convert("RGBA").convert("RGB"))


def _bands_of(path: Source, reading: ImageReading, header: BandsHeader) -> tuple[int, int, int]:
    """Return the numbers, from 1, of the bands that are red, green and blue."""
    other = sorted(_OTHER_MEANINGS.intersection(header.meanings))
    if other:
        raise DataError(
            f"{path}: its bands are {', '.join(other)}, to which neither images.bands nor images.range can apply; "
            "remove both (--bands, --range), or store the image as RGB"
        )
    if reading.bands is not None:
        if max(reading.bands) > header.n_bands:
            raise DataError(
                f"{path}: images.bands names band {max(reading.bands)}, but the file has {header.n_bands}; correct "
                "images.bands (--bands), or exclude the file"
            )
        return reading.bands
    if header.n_bands == 1 or (header.n_bands == 2 and _has_alpha(header)):
        return (1, 1, 1)
    if header.n_bands in (3, 4):
        return (1, 2, 3)
    raise DataError(
        f"{path}: has {header.n_bands} bands; state the numbers of those that are red, green and blue as images.bands "
        "(--bands 1,2,3)"
    )


def _has_alpha(header: BandsHeader) -> bool:
    # Pillow only opens two channels if the second is alpha; then meanings are unknown.
    return not header.meanings or "alpha" in header.meanings


def _check_range(path: Source, reading: ImageReading, dtype: np.dtype[np.generic]) -> None:
    if reading.range is None and dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise DataError(
            f"{path}: {dtype} numbers have no agreed range; state the values of black and white as images.range "
            "(--range)"
        )
    if dtype.kind == "c":
        raise DataError(f"{path}: complex numbers have no order; store their magnitude, or exclude the file")
    if reading.range is not None and dtype == np.uint8 and reading.range[1] > _LARGEST_BYTE:
        raise DataError(
            f"{path}: has 8 bits per band, but images.range ends at {reading.range[1]:g}, so the image would be dark; "
            "exclude the file, or correct images.range (--range)"
        )
