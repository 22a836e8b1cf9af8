"""Label maps with one number per pixel: the numbers as they are stored, never scaled."""

import tokenize
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.errors import DataError

# What NumPy and the libraries under it raise for damaged files.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, SyntaxError, TypeError, KeyError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# TIFF tag, and its value for signed integers.
_SAMPLE_FORMAT, _SIGNED = 339, 2
# A compressed file of a few megabytes can unpack to any size.
_MAX_UNPACKED = 4 << 30
Numbers = npt.NDArray[np.integer]

SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I")
_CHANNELS = {"LA": 1, "RGB": 3, "RGBA": 3}
# float32 and float64 hold every whole number up to this one; beyond it, neighboring ids coincide.
_LARGEST_FLOAT = 2**24


def numbers_in(image: Image.Image, name: str) -> Numbers:
    """Decode the number of every pixel.

    Accepted are gray images of any depth, palettes whose used colors are gray, colors with R = G = B, an alpha channel
    that is opaque everywhere, and floats that are whole numbers.

    Args:
        image: An image that was opened but not decoded yet.
        name: What messages call it.

    Returns:
        (H, W).

    Raises:
        DataError: A pixel is colored, transparent or not a whole number, or the image has more than one frame.
    """
    refuse_frames(image, name)
    _refuse_inverted(image, name)
    if image.mode == "L" and _is_signed(image):
        return np.asarray(image).view(np.int8)
    if image.mode == "1":
        return np.asarray(image, np.uint8)
    if image.mode == "L":
        return _unscaled(image, 255)
    if image.mode in SIXTEEN_BIT_MODES:
        return _unscaled(image, 65535)
    if image.mode == "F":
        return whole_numbers(np.asarray(image), name)
    if image.mode == "P":
        return _gray_channel(palette_of(image)[np.asarray(image)], name)
    if image.mode not in _CHANNELS:
        raise DataError(
            f"{name}: an image of mode {image.mode!r} cannot be a label map; store one number per pixel, as gray"
        )
    refuse_deep_channels(image, name)
    if image.format == "PPM" and _stored_top(image) not in (None, 255):
        raise DataError(f"{name}: colors of {_stored_top(image)} levels; store one number per pixel, as gray")
    pixels = np.asarray(image)
    if image.mode != "RGB":
        refuse_alpha(pixels[..., -1], name)
    return _gray_channel(pixels[..., : _CHANNELS[image.mode]], name)


def stored_bits(image: Image.Image) -> int:
    """Return the bits per pixel and channel; Pillow scales gray values of 2 and 4 bits to 8 bits.

    Args:
        image: An image that was opened but not decoded yet, since Pillow then forgets how it is stored.
    """
    if image.mode == "1":
        return 1
    if image.mode in ("I", "F"):
        return 32
    if image.mode.startswith("I;16") or ";16" in _raw_mode(image):
        return 16
    # The bits follow the channels: 'L;4', or 'P;2'.
    depth = _raw_mode(image).partition(";")[2][:1]
    return int(depth) if depth in ("1", "2", "4") and image.mode in ("L", "P") else 8


def palette_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the colors of a palette image, (256, 3); missing entries are black."""
    colors = np.zeros((256, 3), np.uint8)
    stored = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colors[: len(stored)] = stored[:256]
    return colors


def read_array(source: Path | bytes, name: str | None = None) -> Numbers:
    """Read a label map from a ``.npy`` file, or from a ``.npz`` file that holds one array.

    Returns:
        (H, W).

    Raises:
        DataError: The file cannot be read, or does not hold one matrix of whole numbers.
    """
    name = name or (str(source) if isinstance(source, Path) else "array")
    try:
        loaded = np.load(source if isinstance(source, Path) else BytesIO(source), allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                if len(loaded.files) != 1:
                    raise DataError(f"{name}: holds {len(loaded.files)} arrays; store one array per label map")
                assert loaded.zip is not None  # it is open
                if max(entry.file_size for entry in loaded.zip.infolist()) > _MAX_UNPACKED:
                    raise DataError(f"{name}: is larger than {_MAX_UNPACKED >> 30} GiB when unpacked; store less")
                loaded = loaded[loaded.files[0]]
    except FileNotFoundError as error:
        raise DataError(f"{name}: the file does not exist; add it or exclude it") from error
    # A header can claim any size, for which there is no memory.
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be read as an array ({reason}); replace the file or exclude it") from error
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"{name}: holds no array; replace the file or exclude it")
    return whole_numbers(_matrix(loaded, name), name)


def whole_numbers(values: npt.NDArray[np.generic], name: str) -> Numbers:
    """Convert numbers to integers; raises DataError, naming the first pixel, if one is not whole."""
    if values.dtype.kind in "ui":
        return values.astype(np.int64) if values.dtype == np.uint64 else values  # type: ignore[return-value]
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind != "f":
        raise DataError(f"{name}: holds {values.dtype}, not numbers; store one whole number per pixel")
    # Of NaN and infinity, neither comparison is true.
    whole = (np.abs(values) <= np.float64(_LARGEST_FLOAT)) & (values == np.trunc(values))
    if not whole.all():
        row, column = _first(~whole)
        raise DataError(
            f"{name}: {values[row, column]} at row {row}, column {column} is not a whole number; store class ids"
        )
    return values.astype(np.int32)


def refuse_alpha(alpha: npt.NDArray[np.uint8], name: str) -> None:
    """Raise DataError if a pixel is not opaque."""
    if (alpha != 255).any():
        row, column = _first(alpha != 255)
        raise DataError(
            f"{name}: alpha is {alpha[row, column]} at row {row}, column {column}; a label map has no transparent "
            "pixels, store it without alpha"
        )


def refuse_deep_channels(image: Image.Image, name: str) -> None:
    """Raise DataError if several channels have 16 bits each, of which Pillow drops the lower 8."""
    if ";16" in _raw_mode(image):
        raise DataError(f"{name}: 16 bits in each of several channels; store the label map as 16-bit gray")


def _refuse_inverted(image: Image.Image, name: str) -> None:
    """Raise DataError for inverted gray in TIFF files: whether ids are what is stored or what is shown is unknown."""
    if image.format == "TIFF" and image.mode in ("1", "L") and _raw_mode(image).endswith("I"):
        raise DataError(f"{name}: white is stored as 0 (WhiteIsZero), so its numbers are unclear; store it as PNG")


def _is_signed(image: Image.Image) -> bool:
    return image.format == "TIFF" and image.tag_v2.get(_SAMPLE_FORMAT) == (_SIGNED,)  # type: ignore[attr-defined]


def refuse_frames(image: Image.Image, name: str) -> None:
    """Raise DataError for an animation; further pages of a TIFF file are its overviews."""
    frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP") else 1
    if frames > 1:
        raise DataError(f"{name}: an animation of {frames} frames; store one image per label map")


def _matrix(array: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.generic]:
    matrix = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    if matrix.ndim != 2 or matrix.size == 0:
        shape = " x ".join(map(str, array.shape)) or "no dimensions"
        raise DataError(f"{name}: an array of {shape}; a label map is an array of height x width")
    return matrix


def _unscaled(image: Image.Image, top: int) -> Numbers:
    """Invert Pillow's scaling of the stored numbers to 0..top."""
    stored_top = _stored_top(image)
    values = np.asarray(image)
    if stored_top is None or stored_top == top:
        return values
    unscaled = (values.astype(np.int64) * stored_top + top // 2) // top
    return unscaled.astype(values.dtype)


def _stored_top(image: Image.Image) -> int | None:
    """Return the largest number that a gray file can hold, if Pillow scales it."""
    if image.format == "PPM":  # its header states any number
        decoder, _, _, arguments = (getattr(image, "tile", None) or [("raw", None, 0, None)])[0]
        is_scaled = decoder != "raw" and isinstance(arguments, tuple) and isinstance(arguments[-1], int)
        return int(arguments[-1]) if is_scaled else None
    bits = stored_bits(image)
    return 2**bits - 1 if bits in (2, 4) else None


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the stored pixels, such as 'L;4' or 'RGB;16B'."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _gray_channel(pixels: npt.NDArray[np.uint8], name: str) -> Numbers:
    """Return the number of pixels (H, W, C) whose channels agree."""
    red = pixels[..., 0]
    for channel in range(1, pixels.shape[2]):
        if not np.array_equal(red, pixels[..., channel]):
            row, column = _first((pixels != pixels[..., :1]).any(axis=2))
            color = tuple(pixels[row, column].tolist())
            raise DataError(
                f"{name}: color {color} at row {row}, column {column} is not gray, so it is not a number; declare "
                "labels.encoding: palette or rgb, or store gray"
            )
    return np.ascontiguousarray(red)


def _first(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    row, column = divmod(int(mask.argmax()), mask.shape[1])
    return row, column
