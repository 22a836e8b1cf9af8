"""Reads the bands of TIFF and PNG files as stored, through rasterio (GDAL), which is optional.

Pillow reads neither more than four bands nor 16 bits per color, and cannot read a part of a file.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.data.cells import Source
from seg_transfer.data.record import Window
from seg_transfer.errors import DataError

# First bytes of a file -> the driver that may open it. Many of GDAL's other drivers follow paths and addresses that
# stand in a file.
_DRIVERS = {b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff", b"\x89PNG": "PNG"}
WHITE_IS_ZERO = "inverted gray"
_OPTIONS = {
    # No file beside the image is read or written: world files, overviews, statistics.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # In bytes; the default is 5 % of the memory.
    "GDAL_CACHEMAX": 64 << 20,
}
# A file with larger blocks would decode them again for each of its parts.
_MAX_BLOCK_PIXELS = 1 << 25


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """Bands of a file, or of a part of it.

    Attributes:
        values: (B, H, W), as stored.
        nodata: The value of pixels without data; None if there is no such value.
    """

    values: npt.NDArray[np.generic]
    nodata: float | None


@dataclass(frozen=True, slots=True)
class BandsHeader:
    """What the header of a file says: (height, width) in pixels, number of bands, and what each band shows."""

    size: tuple[int, int]
    n_bands: int
    meanings: tuple[str, ...]


def is_available() -> bool:
    """Whether rasterio is installed."""
    return find_spec("rasterio") is not None


def driver_of(path: Source) -> str | None:
    """Return "GTiff" or "PNG" by the first bytes of a file; None for other files, and if it cannot be read."""
    try:
        with path.open("rb") as file:
            return _DRIVERS.get(file.read(4))
    except OSError:
        return None


def read_header(path: Source) -> BandsHeader:
    """Read the header of a TIFF or PNG file; raises DataError as `read_bands` does."""
    with _open(path) as file:
        is_inverted = file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        meanings = (WHITE_IS_ZERO,) if is_inverted else tuple(meaning.name for meaning in file.colorinterp)
        return BandsHeader((file.height, file.width), file.count, meanings)


def has_windows(path: Source) -> bool:
    """Whether a part of the file can be read without decoding all of it."""
    with _open(path) as file:
        return _has_windows(file)


def read_bands(path: Source, indexes: Sequence[int], window: Window | None = None) -> Bands:
    """Read bands of a TIFF or PNG file.

    Args:
        path: The file.
        indexes: Numbers of the bands, from 1.
        window: The part to read, (top, left, height, width), in stored pixels; None means all of it.

    Raises:
        DataError: rasterio is not installed, or the file cannot be decoded.
    """
    with _open(path) as file:
        part = None
        if window is not None:
            top, left, height, width = window
            part = ((top, top + height), (left, left + width))
        bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8")
        if int(bits) < 8:
            raise DataError(f"{path}: bands of {bits} bits cannot be read by band; store them with 8 bits")
        values: npt.NDArray[np.generic] = file.read(list(indexes), window=part)
        # A PNG file has a transparent color instead, and transparency is dropped.
        return Bands(values, file.nodata if file.driver == "GTiff" else None)


def _has_windows(file: Any) -> bool:
    largest = max(height * width for height, width in file.block_shapes)
    return bool(file.driver == "GTiff" and largest <= _MAX_BLOCK_PIXELS)


@contextmanager
def _open(path: Source) -> Iterator[Any]:
    rasterio = _rasterio(path)
    location = str(path.absolute()) if isinstance(path, Path) else ""
    try:
        driver = driver_of(path)
        if driver is None or location.startswith("/vsi"):  # GDAL would take such a name for an archive or an address
            raise DataError(f"{path}: is not a TIFF or PNG file on this machine; add it or exclude it")
        with rasterio.Env(**_OPTIONS), ExitStack() as files:
            if isinstance(path, Path):
                yield files.enter_context(rasterio.open(location, driver=driver))
            else:
                memory = files.enter_context(rasterio.MemoryFile(path.open().read()))
                yield files.enter_context(memory.open(driver=driver))
    # A name that is not UTF-8 is a ValueError; GDAL's errors are RasterioError.
    except (rasterio.errors.RasterioError, OSError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be decoded ({reason}); replace the file or exclude it") from error


def _rasterio(path: Source) -> Any:
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise DataError(
            f"{path}: its bands, or its 16 bits per color, can only be read with rasterio, which is not installed: "
            'pip install "seg_transfer[formats]"'
        ) from error
    _silence()
    return rasterio


@cache
def _silence() -> None:
    # Photos have no coordinates, and errors are raised: messages in the log would repeat them.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
