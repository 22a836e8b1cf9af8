"""Label maps in MATLAB files, with a reader that only supports a plain matrix of integers.

SciPy reads everything that such a file can hold, but a damaged file crashes its compiled reader and the whole process.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.encodings.base import RawValues
from seg_transfer.data.fields import Text
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError

_HEADER = 128
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
# Storage types of numbers, and the classes of numeric arrays: double, single, and integers of 8 to 64 bits.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)
_COMPLEX = 0x0800
# Number of bytes that contain the flags, sizes and name of a matrix; a name has at most 63 characters.
_HEADER_BYTES = 512


class MatLabels(RawValues):
    """MATLAB files in which the variable named ``variable`` is a matrix with one number per pixel."""

    encoding: Literal["mat"]
    variable: Text

    def read_raw(self, record: Record) -> npt.NDArray[np.integer]:
        """Read the numbers of a label map, (H, W)."""
        return read_matrix(record.label, self.variable)


class _Matrix(NamedTuple):
    name: str
    kind: int
    shape: tuple[int, ...]
    start: int
    """Position of the element with the numbers."""


def read_matrix(path: Path, variable: str) -> npt.NDArray[np.integer]:
    """Read a matrix of integers from a MATLAB file of version 5 to 7.2.

    Args:
        path: The file.
        variable: Name of the matrix.

    Returns:
        (H, W).

    Raises:
        DataError: The file is missing, damaged or of another version, or has no such matrix.
    """
    try:
        matrix = _find(path, path.read_bytes(), variable)
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; add it or exclude it") from error
    # Anything in the file may be damaged: a size, a type, the compressed bytes.
    except (OSError, ValueError, IndexError, KeyError, OverflowError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable MATLAB file ({reason}); replace the file or exclude it") from error
    if matrix.dtype.kind == "f" and not (np.array_equal(matrix, np.trunc(matrix)) and np.abs(matrix).max() < 2**53):
        raise DataError(f"{path}: {variable!r} holds {matrix.dtype} values, not integers; name another variable")
    whole: npt.NDArray[np.integer] = matrix.astype(np.int64)
    return whole


def _find(path: Path, content: bytes, variable: str) -> npt.NDArray[np.generic]:
    order = _ORDERS.get(content[126:_HEADER])
    if order is None or struct.unpack(f"{order}H", content[124:126])[0] != 0x0100:
        raise ValueError("it is not of version 5 to 7.2; in MATLAB, save it with -v7")
    for kind, body in _elements(content, order):
        start = body if kind == _MATRIX else _decompress(body, _HEADER_BYTES)[8:]
        matrix = _matrix_header(start, order)
        if matrix.name != variable:
            continue
        if not (matrix.kind & 0xFF in _NUMERIC and len(matrix.shape) == 2 and 0 < _size(matrix) <= _max_pixels()):
            shape = " x ".join(map(str, matrix.shape))
            raise DataError(
                f"{path}: {variable!r} is an array of {shape}, which cannot be a label map; name a matrix of "
                "numbers with the size of the image as labels.variable, or replace the file"
            )
        if matrix.kind & _COMPLEX:
            raise DataError(f"{path}: {variable!r} holds complex values, not integers; name another variable")
        max_bytes = 8 + matrix.start + 8 + 8 * _size(matrix)
        whole = body if kind == _MATRIX else _decompress(body, max_bytes, to_the_end=True)[8:]
        return _numbers(whole, matrix, order)
    raise DataError(f"{path}: has no variable named {variable!r}; correct labels.variable or replace the file")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and bytes of every plain or compressed matrix in a file."""
    position = _HEADER
    while position < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        position += 8
        if position + size > len(content):
            raise ValueError("it ends too early")
        if kind in (_MATRIX, _COMPRESSED):
            yield kind, content[position : position + size]
        position += size


def _decompress(packed: bytes, max_bytes: int, *, to_the_end: bool = False) -> bytes:
    """Decompress the first `max_bytes` bytes; with `to_the_end`, also verify the checksum at the end of the stream."""
    stream = zlib.decompressobj()
    content = stream.decompress(packed, max_bytes)
    if to_the_end and not stream.eof and (stream.decompress(stream.unconsumed_tail, 1) or not stream.eof):
        raise ValueError("its compressed bytes end too early or too late")
    return content


def _element_at(body: bytes, position: int, order: str) -> tuple[int, int, int, int]:
    """Return type, first byte and size of the element at a position, and the position of the next element."""
    (first,) = struct.unpack_from(f"{order}I", body, position)
    if first >> 16:  # an element of at most four bytes is stored inside its eight-byte tag
        return first & 0xFFFF, position + 4, first >> 16, position + 8
    (size,) = struct.unpack_from(f"{order}I", body, position + 4)
    return first, position + 8, size, position + 8 + -(-size // 8) * 8


def _matrix_header(body: bytes, order: str) -> _Matrix:
    _, flags, _, position = _element_at(body, 0, order)
    (kind,) = struct.unpack_from(f"{order}I", body, flags)
    _, sizes, length, position = _element_at(body, position, order)
    shape = struct.unpack_from(f"{order}{min(length // 4, 32)}i", body, sizes)
    _, name, length, position = _element_at(body, position, order)
    return _Matrix(body[name : name + length].decode("latin-1"), kind, shape, position)


def _size(matrix: _Matrix) -> int:
    height, width = matrix.shape
    return height * width


def _numbers(body: bytes, matrix: _Matrix, order: str) -> npt.NDArray[np.generic]:
    kind, begin, size, _ = _element_at(body, matrix.start, order)
    dtype = np.dtype(_TYPES[kind]).newbyteorder(order)  # type: ignore[arg-type]
    if size != _size(matrix) * dtype.itemsize:
        raise ValueError(f"{size} bytes do not make {matrix.shape[0]} x {matrix.shape[1]} numbers")
    # The numbers are stored column by column.
    return np.frombuffer(body[begin : begin + size], dtype).reshape(matrix.shape, order="F")


def _max_pixels() -> int:
    # Pillow's limit for images; it prevents a small file from exhausting the memory.
    return 2 * (Image.MAX_IMAGE_PIXELS or 2**27)
