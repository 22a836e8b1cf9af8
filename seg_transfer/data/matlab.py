"""Label maps in MATLAB files: a reader of one plain matrix of whole numbers, and of nothing else.

SciPy reads all that such a file can hold, but a damaged file makes its compiled reader end the whole process.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.errors import DataError

_HEADER = 128
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
# Storage types of numbers, and the classes of numeric arrays: double, single, and integers of 8 to 64 bits.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800
# The flags, sizes and name of a matrix; a name has 63 characters at most.
_ENOUGH_FOR_NAME = 512


class _Matrix(NamedTuple):
    name: str
    kind: int
    shape: tuple[int, ...]
    start: int
    """Where the element with the numbers begins."""


def read_matrix(path: Path, variable: str) -> npt.NDArray[np.integer]:
    """The matrix of whole numbers that a MATLAB file (version 5 to 7.2) holds under a name, (H, W).

    DataError names a file that is missing, damaged or of another version, and one without such a matrix.
    """
    try:
        matrix = _find(path, path.read_bytes(), variable)
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; add it or exclude it") from error
    # What is damaged can be anything: a size, a type, the compressed bytes.
    except (OSError, ValueError, IndexError, KeyError, OverflowError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable MATLAB file ({reason}); replace the file or exclude it") from error
    if matrix.dtype.kind == "f" and not (np.array_equal(matrix, np.trunc(matrix)) and np.abs(matrix).max() < 2**53):
        raise DataError(f"{path}: {variable!r} holds {matrix.dtype} and not whole numbers; name another variable")
    whole: npt.NDArray[np.integer] = matrix.astype(np.int64)
    return whole


def _find(path: Path, content: bytes, variable: str) -> npt.NDArray[np.generic]:
    order = _ORDERS.get(content[126:_HEADER])
    if order is None or struct.unpack(f"{order}H", content[124:126])[0] != 0x0100:
        raise ValueError("it is not of version 5 to 7.2; in MATLAB, save it with -v7")
    for kind, body in _elements(content, order):
        start = body if kind == _MATRIX else _inflated(body, _ENOUGH_FOR_NAME)[8:]
        matrix = _head(start, order)
        if matrix.name != variable:
            continue
        if not (matrix.kind & 0xFF in _NUMERIC and len(matrix.shape) == 2 and 0 < _size(matrix) <= _most_pixels()):
            shape = " x ".join(map(str, matrix.shape))
            raise DataError(
                f"{path}: {variable!r} is an array of {shape} that is no label map; name a matrix of numbers of the "
                "size of an image as labels.variable, or replace the file"
            )
        if matrix.kind & _COMPLEX:
            raise DataError(f"{path}: {variable!r} holds complex and not whole numbers; name another variable")
        most = 8 + matrix.start + 8 + 8 * _size(matrix)
        whole = body if kind == _MATRIX else _inflated(body, most, to_the_end=True)[8:]
        return _numbers(whole, matrix, order)
    raise DataError(f"{path}: holds nothing under the name {variable!r}; correct labels.variable or replace the file")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of every matrix and every compressed matrix of a file."""
    place = _HEADER
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        place += 8
        if place + size > len(content):
            raise ValueError("it ends too early")
        if kind in (_MATRIX, _COMPRESSED):
            yield kind, content[place : place + size]
        place += size


def _inflated(packed: bytes, most: int, *, to_the_end: bool = False) -> bytes:
    """The first `most` bytes that were compressed; at the end a checksum tells whether they are as they were."""
    stream = zlib.decompressobj()
    content = stream.decompress(packed, most)
    if to_the_end and not stream.eof and (stream.decompress(stream.unconsumed_tail, 1) or not stream.eof):
        raise ValueError("its compressed bytes end too early or too late")
    return content


def _part(body: bytes, place: int, order: str) -> tuple[int, int, int, int]:
    """Type, first byte and number of bytes of the element at a place, and where the next one begins."""
    (first,) = struct.unpack_from(f"{order}I", body, place)
    if first >> 16:  # an element of at most four bytes shares the eight of its tag
        return first & 0xFFFF, place + 4, first >> 16, place + 8
    (size,) = struct.unpack_from(f"{order}I", body, place + 4)
    return first, place + 8, size, place + 8 + -(-size // 8) * 8


def _head(body: bytes, order: str) -> _Matrix:
    _, flags, _, place = _part(body, 0, order)
    (kind,) = struct.unpack_from(f"{order}I", body, flags)
    _, sizes, length, place = _part(body, place, order)
    shape = struct.unpack_from(f"{order}{min(length // 4, 32)}i", body, sizes)
    _, name, length, place = _part(body, place, order)
    return _Matrix(body[name : name + length].decode("latin-1"), kind, shape, place)


def _size(matrix: _Matrix) -> int:
    height, width = matrix.shape
    return height * width


def _numbers(body: bytes, matrix: _Matrix, order: str) -> npt.NDArray[np.generic]:
    kind, begin, size, _ = _part(body, matrix.start, order)
    dtype = np.dtype(_TYPES[kind]).newbyteorder(order)  # type: ignore[arg-type]
    if size != _size(matrix) * dtype.itemsize:
        raise ValueError(f"{size} bytes do not make {matrix.shape[0]} x {matrix.shape[1]} numbers")
    # The numbers stand column by column.
    return np.frombuffer(body[begin : begin + size], dtype).reshape(matrix.shape, order="F")


def _most_pixels() -> int:
    # Pillow refuses images beyond this, lest a small file fill the memory.
    return 2 * (Image.MAX_IMAGE_PIXELS or 2**27)
