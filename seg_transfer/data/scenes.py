"""Reads parts of large images: by windows where the file allows it, else from a decoded scene that is kept.

A tiled or striped TIFF file is read by windows, with rasterio. Any other file must be decoded as a whole for each of
its tiles, so the last scenes are kept, up to `MAX_KEPT_BYTES`: an RGB scene of 13,500 x 13,500 pixels takes 0.7 GB.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.bands import driver_of, has_windows, is_available, read_bands
from seg_transfer.data.decoding import any_size, check_pixels, open_image
from seg_transfer.data.record import Window
from seg_transfer.errors import DataError

# An image of 13,500 x 13,500 pixels and its label map fit, but two such images do not.
MAX_KEPT_BYTES = 1 << 30
_BYTES_PER_PIXEL = 4
# TIFF tags.
_BITS, _PHOTOMETRIC, _ORIENTATION, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 274, 338, 339
_BLACK_IS_ZERO, _RGB, _PALETTE = 1, 2, 3
# Mode -> photometric interpretations for which rasterio gives the pixels that Pillow gives (up to rounding where JPEG
# blocks are YCbCr), and the bands to read.
_SAME_PIXELS = {
    "L": ((_BLACK_IS_ZERO,), (1,)),
    "P": ((_PALETTE,), (1,)),
    "I;16": ((_BLACK_IS_ZERO,), (1,)),
    "RGB": ((_RGB,), (1, 2, 3)),
}

_Scene = TypeVar("_Scene", Image.Image, npt.NDArray[np.integer], npt.NDArray[np.generic])
# Key -> scene and its bytes, the last used one at the end.
_kept: dict[Hashable, tuple[object, int]] = {}
_keeping = RLock()


@contextmanager
def open_tile(path: Path, window: Window) -> Iterator[Image.Image]:
    """Open a part of an image, as `open_image` opens a whole one.

    Args:
        path: The image; it may be larger than Pillow's limit.
        window: The part: (top, left, height, width), in stored pixels.

    Raises:
        DataError: The file cannot be decoded, is too large to be decoded as a whole, or is smaller than the window.
    """
    with any_size(), open_image(path) as image:
        check_window(path, window, (image.height, image.width))
        bands = _bands_in_windows(image, path)
        yield _windowed_tile(image, path, bands, window) if bands else _decoded_tile(image, path, window)


def is_read_by_windows(path: Path) -> bool:
    """Whether `open_tile` reads a part of an image without decoding the rest."""
    if driver_of(path) != "GTiff":
        return False
    with any_size(), open_image(path) as image:
        return bool(_bands_in_windows(image, path))


def check_window(path: Path, window: Window, size: tuple[int, int]) -> None:
    """Raise DataError if a part reaches beyond the (height, width) of its image."""
    top, left, height, width = window
    if top + height > size[0] or left + width > size[1]:
        raise DataError(
            f"{path}: {size[0]} x {size[1]} (height x width) has no part of {height} x {width} at row {top}, column "
            f"{left}; an image and its label map need one size"
        )


def kept_scene(key: Hashable, path: Path, load: Callable[[], _Scene], expected_bytes: int = 0) -> _Scene:
    """Return a decoded scene that was kept, or decode and keep it.

    Args:
        key: Says what is decoded.
        path: The file that it is decoded from; if it changes, it is decoded again.
        load: Decodes the scene.
        expected_bytes: Before `load`, as many of the scenes that were used least recently are dropped as this needs.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); add the file or exclude it") from error
    full_key = (key, path, status.st_size, status.st_mtime_ns)
    # Other threads wait, because they most likely need the same scene.
    with _keeping:
        if full_key in _kept:
            _kept[full_key] = _kept.pop(full_key)
            return _kept[full_key][0]  # type: ignore[return-value]
        _make_room(expected_bytes)
        scene = load()
        n_bytes = _bytes_of(scene)
        _make_room(n_bytes)
        _kept[full_key] = (scene, n_bytes)
    return scene


def forget_scenes() -> None:
    """Free the memory of all decoded scenes."""
    with _keeping:
        _kept.clear()


def cut(scene: npt.NDArray[np.integer], window: Window) -> npt.NDArray[np.integer]:
    """Copy a part of an array (H, W), so that the array can be freed."""
    top, left, height, width = window
    return scene[top : top + height, left : left + width].copy()


def _make_room(n_bytes: int) -> None:
    while _kept and n_bytes + sum(size for _, size in _kept.values()) > MAX_KEPT_BYTES:
        del _kept[next(iter(_kept))]


def _bytes_of(scene: Image.Image | npt.NDArray[np.generic]) -> int:
    if isinstance(scene, np.ndarray):
        return scene.nbytes
    return scene.width * scene.height * (1 if scene.mode in ("1", "L", "P") else _BYTES_PER_PIXEL)


def _bands_in_windows(image: Image.Image, path: Path) -> tuple[int, ...]:
    """Return the bands of an open file that give Pillow's pixels and can be read by windows; () if none do."""
    if image.format != "TIFF" or not is_available():
        return ()
    tags = image.tag_v2  # type: ignore[attr-defined]
    photometric, bands = _SAME_PIXELS.get(image.mode, ((), ()))
    bits = 16 if image.mode == "I;16" else 8
    same = tags.get(_PHOTOMETRIC) in photometric and set(tags.get(_BITS, (1,))) == {bits}
    is_unsigned = set(tags.get(_SAMPLE_FORMAT, (1,))) == {1}
    is_plain = is_unsigned and tags.get(_ORIENTATION, 1) == 1 and not tags.get(_EXTRA_SAMPLES)
    return bands if same and is_plain and has_windows(path) else ()


def _windowed_tile(image: Image.Image, path: Path, bands: tuple[int, ...], window: Window) -> Image.Image:
    pixels = read_bands(path, bands, window).values
    tile = Image.fromarray(pixels[0] if len(bands) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if image.mode == "P" and image.palette is not None:
        tile.putpalette(image.palette)
    return tile


def _decoded_tile(image: Image.Image, path: Path, window: Window) -> Image.Image:
    check_pixels(str(path), image)

    def decode() -> Image.Image:
        image.load()
        return image

    top, left, height, width = window
    scene = kept_scene("pixels", path, decode, image.width * image.height * _BYTES_PER_PIXEL)
    return scene.crop((left, top, left + width, top + height))
