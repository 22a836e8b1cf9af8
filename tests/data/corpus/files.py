"""Writes the files of the corpus: images and label maps of every format, as other programs write them."""

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from data.corpus.scenes import Array
from PIL import Image

ORIENTATION = 0x0112
# The colors of PASCAL VOC's first classes.
VOC = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128))


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_image(path: Path, pixels: Array) -> None:
    """Write an image or a gray label map; the suffix decides the format, which must not lose anything."""
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(pixels).save(made(path), **lossless)


def gray8(path: Path, raw: Array) -> None:
    write_image(path, raw.astype(np.uint8))


def gray16(path: Path, raw: Array) -> None:
    write_image(path, raw.astype(np.uint16))


def int32(path: Path, raw: Array) -> None:
    write_image(path, raw.astype(np.int32))


def floats(path: Path, raw: Array) -> None:
    write_image(path, raw.astype(np.float32))


def numpy_file(path: Path, raw: Array) -> None:
    np.save(made(path), raw)


def numpy_archive(path: Path, raw: Array) -> None:
    np.savez(made(path), mask=raw)


def write_gray_png(path: Path, raw: Array, bits: int) -> None:
    """Write a gray PNG of 1, 2, 4, 8 or 16 bits; Pillow writes neither 2 nor 4."""
    height, width = raw.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in raw]
    else:
        digits = ((raw[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in digits]
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    written = [struct.pack(">I", len(body)) + kind + body + _checksum(kind + body) for kind, body in chunks]
    made(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))


def _checksum(content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content))


def write_palette(path: Path, raw: Array, palette: Sequence[tuple[int, int, int]], bits: int = 8) -> None:
    """Write palette indices with their colors."""
    image = Image.new("P", raw.shape[::-1])
    image.putdata(raw.ravel().tolist())
    image.putpalette([channel for color in palette for channel in color])
    image.save(made(path), **({"bits": bits} if path.suffix == ".png" else {}))


def with_alpha(pixels: Array, alpha: int | Array = 255) -> npt.NDArray[np.uint8]:
    """Add an alpha channel to (H, W) or (H, W, 3)."""
    channels = np.atleast_3d(pixels).astype(np.uint8)
    return np.concatenate([channels, np.broadcast_to(np.uint8(alpha), pixels.shape[:2])[..., None]], axis=2)


def as_rgb(raw: Array) -> npt.NDArray[np.uint8]:
    """Gray numbers as R = G = B."""
    return np.repeat(raw.astype(np.uint8)[..., None], 3, axis=2)


def write_oriented(path: Path, stored: Array, orientation: int) -> npt.NDArray[np.uint8]:
    """Write a JPEG with an EXIF orientation; returns its stored pixels as Pillow decodes them."""
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(made(path), quality=95, exif=exif)
    with Image.open(path) as written:
        return np.asarray(written.convert("RGB"))


def turned_upright(stored: Array, orientation: int) -> Array:
    """The picture that a viewer shows for stored pixels: 3 is a half turn, 6 a quarter clockwise, 8 the other way."""
    return np.rot90(stored, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])


def write_bands(path: Path, bands: Array) -> None:
    """Write a TIFF with any number of bands, (bands, H, W)."""
    import rasterio

    count, height, width = bands.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file has no geographic position
        with rasterio.open(
            made(path), "w", "GTiff", width, height, count, dtype=bands.dtype, photometric="minisblack"
        ) as file:
            file.write(bands)
