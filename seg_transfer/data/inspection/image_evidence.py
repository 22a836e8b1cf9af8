"""What one image shows: mostly its header; deep images are decoded, because their range is not in the header."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from seg_transfer.data.bands import read_bands, read_header
from seg_transfer.data.decoding import any_size, open_image
from seg_transfer.data.numbers import stored_bits
from seg_transfer.data.record import Record
from seg_transfer.data.scenes import open_tile
from seg_transfer.errors import DataError

# (bands, alpha) of Pillow's modes; all others have three bands, or one.
_BANDS: Mapping[str, tuple[int, bool]] = {"LA": (1, True), "PA": (3, True), "RGBA": (3, True), "CMYK": (3, False)}
_THREE_BANDS = ("RGB", "P", "YCbCr", "LAB", "HSV", "RGBX")
# Constant images stay constant however small they are drawn; a fine pattern could vanish in a smaller one than this.
_THUMBNAIL = (256, 256)
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
        orientation: EXIF orientation, 1 to 8; 1 means as stored.
        is_float: Whether pixels are floats.
        lowest: Lowest finite value, for more than 8 bits.
        highest: Highest finite value, for more than 8 bits.
        is_constant: Whether all pixels have one color; None if that was not looked at.
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


def look_at_image(source: Path | bytes, name: str | None = None, *, check_constant: bool = True) -> ImageEvidence:
    """Read the header of an image, and its pixels where they are needed.

    Args:
        source: The file, or its content.
        name: What messages call it; by default the path.
        check_constant: Whether to decode an image of 8 bits, to see whether it is constant.

    Raises:
        DataError: It cannot be decoded, or needs a library that is not installed.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    if not _pillow_opens(source):
        return _by_gdal(source, name)
    with open_image(source, name) as image:
        return _look_at(image, name, check_constant)


def look_at_images(sources: Mapping[str, Path | bytes]) -> tuple[ImageEvidence, ...]:
    """Look at several images, by name; pixels of 8 bits are decoded only until one image is not constant."""
    looks = [partial(look_at_image, source, name) for name, source in sources.items()]
    return _until_one_varies(looks)


def look_at_images_of(records: Sequence[Record]) -> tuple[ImageEvidence, ...]:
    """Look at the images of records, of tiles only at the tile, as `look_at_images` does."""
    return _until_one_varies([partial(_look_at_record, record) for record in records])


def _until_one_varies(looks: Iterable[Callable[..., ImageEvidence]]) -> tuple[ImageEvidence, ...]:
    seen: list[ImageEvidence] = []
    may_be_constant = True
    for look in looks:
        seen.append(look(check_constant=may_be_constant))
        may_be_constant = may_be_constant and seen[-1].is_constant is not False
    return tuple(seen)


def _look_at_record(record: Record, *, check_constant: bool) -> ImageEvidence:
    source, name = record.image_source, str(record.image_source)
    if record.window is None:
        content = source if isinstance(source, Path) else source.open().read()
        return look_at_image(content, name, check_constant=check_constant)
    with any_size():
        if not _pillow_opens(record.image):
            header = read_header(record.image)
            bands = read_bands(record.image, range(1, header.n_bands + 1), record.window)
            return _of_bands(bands.values, name, "alpha" in header.meanings)
    with open_tile(record.image, record.window) as tile:
        return _look_at(tile, name, check_constant)


def _look_at(image: Image.Image, name: str, check_constant: bool) -> ImageEvidence:
    n_bands, has_alpha = _BANDS.get(image.mode, (3 if image.mode in _THREE_BANDS else 1, False))
    about: dict[str, Any] = {"format": image.format or "unknown", "mode": image.mode, "bits": stored_bits(image)}
    about["orientation"] = _orientation(image)
    size, is_float = (image.height, image.width), image.mode == "F"
    if about["bits"] > 8 and n_bands == 1:
        about |= _extremes(np.asarray(image))
    elif about["bits"] > 8:
        about |= _extremes_of_high_bytes(image)
    elif check_constant:
        about["is_constant"] = _is_constant(image)
    return ImageEvidence(name, size=size, n_bands=n_bands, has_alpha=has_alpha, is_float=is_float, **about)


def _pillow_opens(source: Path | bytes) -> bool:
    """Whether Pillow knows the file; it does not know TIFF files of many bands. Other errors are left to the reader."""
    content = BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(content, formats=("TIFF",)):
            return True
    except (OSError, SyntaxError, ValueError):
        return not _is_tiff(source)


def _is_tiff(source: Path | bytes) -> bool:
    if isinstance(source, bytes):
        return source[:4] in _TIFF_BEGINNINGS
    try:
        with source.open("rb") as file:
            return file.read(4) in _TIFF_BEGINNINGS
    except OSError:
        return False


def _by_gdal(source: Path | bytes, name: str) -> ImageEvidence:
    try:
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.io import MemoryFile
    except ImportError as error:
        raise DataError(
            f'{name}: a TIFF file that only GDAL reads; install it: pip install "seg_transfer[formats]"'
        ) from error
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), MemoryFile(content) as memory:
            file = memory.open(driver="GTiff")
            pixels = file.read()
            has_alpha = any(interpretation.name == "alpha" for interpretation in file.colorinterp)
    except (RasterioError, OSError) as error:
        raise DataError(f"{name}: cannot be decoded ({error}); replace the file or exclude it") from error
    return _of_bands(pixels, name, has_alpha)


def _of_bands(pixels: npt.NDArray[Any], name: str, has_alpha: bool) -> ImageEvidence:
    n_bands, height, width = pixels.shape
    return ImageEvidence(
        name, "TIFF", (height, width), str(pixels.dtype), 8 * pixels.dtype.itemsize, n_bands - has_alpha, has_alpha,
        is_float=pixels.dtype.kind == "f", **_extremes(pixels),
    )  # fmt: skip


def _extremes(pixels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the lowest and highest finite value, and whether each band (last two axes) is constant."""
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    bands = pixels.reshape(-1, pixels.shape[-2] * pixels.shape[-1])
    constant = bool((bands == bands[:, :1]).all())
    if finite.size == 0:
        return {"is_constant": True}
    return {"lowest": float(finite.min()), "highest": float(finite.max()), "is_constant": constant}


def _extremes_of_high_bytes(image: Image.Image) -> dict[str, Any]:
    """Bound the values of several 16-bit channels, of which Pillow keeps the high bytes: enough for the used bits."""
    pixels = np.asarray(image.convert("RGB"))
    is_constant = bool((pixels == pixels[0, 0]).all())
    return {"lowest": 256.0 * pixels.min(), "highest": 256.0 * pixels.max() + 255, "is_constant": is_constant}


def _is_constant(image: Image.Image) -> bool:
    # JPEG files are decoded at a fraction of their size; the pixels of other formats cannot be read in part.
    image.draft("RGB", _THUMBNAIL)
    colors = image.convert("RGBA" if "transparency" in image.info else "RGB").convert("RGB")
    pixels = np.asarray(colors)
    return bool((pixels == pixels[0, 0]).all())


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow and GDAL turn these upright, label maps too
        return 1
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1
