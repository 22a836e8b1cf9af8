"""The orientation of images: the turn or reflection that makes the stored pixels upright."""

import struct

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin

from seg_transfer.data.cells import Source
from seg_transfer.data.decoding import any_size, open_image
from seg_transfer.data.record import Window
from seg_transfer.errors import DataError

_TAG = ExifTags.Base.Orientation
_PNG_SIGNATURE, _TIFF_HEAD = 8, 8  # bytes
_BIG_TIFF = 43  # the version of files with 64-bit offsets, whose head is twice as long
# Orientation -> whether rows and columns are exchanged, and then whether rows and whether columns are reversed.
_STEPS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def exif_orientation(path: Source) -> int:
    """Return the orientation, 1 to 8, in the EXIF data of an image, from headers only; 1 if there is none.

    It is 1 for TIFF files, which Pillow turns upright itself.

    Raises:
        DataError: The file is not an image, or its EXIF data are damaged.
    """
    with any_size(), open_image(path) as image:
        if image.format == "TIFF":
            return 1
        try:
            orientation = _orientation_in(image, path)
        # Pillow's parser raises errors of many types for damaged EXIF data.
        except Exception as error:
            raise DataError(
                f"{path}: its EXIF data cannot be read ({' '.join(str(error).split())}); remove them from the file, or "
                "state images.exif: ignore (--exif ignore)"
            ) from error
    return orientation if orientation in _STEPS else 1


def tiff_orientation(path: Source) -> int:
    """Return the orientation, 1 to 8, of a TIFF file of any kind; Pillow applies it to the kinds that it can open.

    Raises:
        DataError: The directory of the file is damaged.
    """
    try:
        orientation = _tag_of_tiff(path)
    except Exception as error:  # as above
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be decoded ({reason}); replace the file or exclude it") from error
    return orientation if orientation in _STEPS else 1


def swaps_sides(orientation: int) -> bool:
    """Whether height and width of the upright image are width and height of the stored one."""
    return _STEPS[orientation][0]


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn stored pixels (H, W, 3) upright."""
    swaps, reverses_rows, reverses_columns = _STEPS[orientation]
    turned = pixels.swapaxes(0, 1) if swaps else pixels
    return np.ascontiguousarray(turned[:: -1 if reverses_rows else 1, :: -1 if reverses_columns else 1])


def stored_window(window: Window, orientation: int, height: int, width: int) -> Window:
    """Return where a part of the upright image is stored; `height` and `width` are those of the stored image."""
    swaps, reverses_rows, reverses_columns = _STEPS[orientation]
    top, left, rows, columns = window
    height, width = (width, height) if swaps else (height, width)
    top = height - top - rows if reverses_rows else top
    left = width - left - columns if reverses_columns else left
    return (left, top, columns, rows) if swaps else (top, left, rows, columns)


def _orientation_in(image: Image.Image, path: Source) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        exif = Image.Exif()
        exif.load(_exif_chunk(path))
        if _TAG in exif:
            return int(exif[_TAG])
    # PngImageFile.getexif would decode the whole image.
    return int(Image.Image.getexif(image).get(_TAG, 1))


def _exif_chunk(path: Source) -> bytes:
    """Return the EXIF data of a PNG file, which may follow the pixels; b"" if there are none."""
    with path.open("rb") as file:
        file.seek(_PNG_SIGNATURE)
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(size)
            file.seek(size + 4, 1)
    return b""


def _tag_of_tiff(path: Source) -> int:
    with path.open("rb") as file:
        head = file.read(_TIFF_HEAD)
        if _BIG_TIFF in head[2:4]:
            head += file.read(_TIFF_HEAD)
        directory = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(directory.next)
        directory.load(file)
    return int(directory.get(_TAG, 1))
