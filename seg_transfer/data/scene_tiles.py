"""Large images as tiles: each tile is a record of its own, so that the low-shot subset is a draw of tiles.

`seg_transfer.data.tiles` is another thing: it cuts the patches of two datasets of the paper into files.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from seg_transfer.data.fields import Block, Positive
from seg_transfer.data.record import Record, Window
from seg_transfer.data.rgb import read_size
from seg_transfer.errors import DataError

MAX_PIXELS = 178_956_970
"""Pillow refuses images with more pixels."""
# Headers of thousands of files take long to read, so those of files are skipped that have too few bytes for a large
# image. Upper bounds of pixels per byte: a JPEG file takes two bits per block of 64 pixels, which may show 256; run
# lengths of BMP files take two bytes for 255 pixels; deflate shrinks to 1/1032 at best, and PNG files hold up to eight
# pixels per byte. TIFF files can leave out empty parts and WebP files can take no bits per pixel: all are looked at.
_PIXELS_PER_BYTE = {".jpg": 1024, ".jpeg": 1024, ".bmp": 128, ".png": 8 * 1032, ".gif": 8 * 1032}

# A header of a few bytes can claim any size; a scene of a million tiles has a terapixel.
_MAX_TILES = 1 << 20


class Tiles(Block):
    """Which images are used as tiles.

    Attributes:
        above: Images with more pixels than this are used as tiles.
        size: Height and width of a tile, in pixels. The last tile of a row or column is moved inward, so it overlaps
            the one before; a scene that is narrower or lower than this has narrower or lower tiles.
    """

    above: Positive = MAX_PIXELS
    size: Positive = 1024


def with_tiles(records: Iterable[Record], tiles: Tiles) -> tuple[list[Record], list[str]]:
    """Replace each record of a large image with one record per tile, and list problems.

    The ``image_id`` of a tile is that of its image, ``@``, and the row and column of its first pixel: ``scene@0_1024``.

    Returns:
        The records, sorted by ``image_id``, and one line per tile that has the ``image_id`` of another record.
    """
    found: dict[str, Record] = {}
    problems = []
    for record in records:
        try:
            parts = _tiles_of(record, tiles)
        except DataError as error:
            problems.append(str(error))
            continue
        for tile in parts:
            if tile.image_id in found:
                problems.append(
                    f"{found[tile.image_id].image.name} and a tile of {tile.image.name} would both have the id "
                    f"{tile.image_id}; rename one"
                )
            found.setdefault(tile.image_id, tile)
    return sorted(found.values(), key=lambda record: record.image_id), problems


def windows_of(height: int, width: int, size: int) -> list[Window]:
    """Return the tiles (top, left, height, width) that cover an image, row by row.

    Example:
        >>> windows_of(3, 5, 2)
        [(0, 0, 2, 2), (0, 2, 2, 2), (0, 3, 2, 2), (1, 0, 2, 2), (1, 2, 2, 2), (1, 3, 2, 2)]
    """
    tile_height, tile_width = min(size, height), min(size, width)
    return [
        (top, left, tile_height, tile_width)
        for top in _starts(height, tile_height)
        for left in _starts(width, tile_width)
    ]


def _starts(length: int, size: int) -> list[int]:
    return [min(start, length - size) for start in range(0, length, size)]


def _tiles_of(record: Record, tiles: Tiles) -> list[Record]:
    if record.row is not None or not _may_exceed(record.image, tiles.above):
        return [record]
    try:
        height, width = read_size(record.image, record.reading)
    except DataError:
        return [record]  # whoever decodes the image reports this
    if height * width <= tiles.above:
        return [record]
    n_tiles = -(-height // tiles.size) * -(-width // tiles.size)
    if n_tiles > _MAX_TILES:
        raise DataError(
            f"{record.image}: {height} x {width} pixels would be {n_tiles} tiles, but at most {_MAX_TILES} are listed; "
            "state a larger tiles.size, or exclude the image"
        )
    return [
        replace(record, image_id=f"{record.image_id}@{window[0]}_{window[1]}", window=window)
        for window in windows_of(height, width, tiles.size)
    ]


def _may_exceed(image: Path, n_pixels: int) -> bool:
    pixels_per_byte = _PIXELS_PER_BYTE.get(image.suffix.lower())
    return pixels_per_byte is None or image.stat().st_size * pixels_per_byte > n_pixels
