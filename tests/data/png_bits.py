"""Gray PNG files of any depth, which Pillow cannot write."""

import struct
import zlib

import numpy as np
import numpy.typing as npt


def gray_png(values: npt.NDArray[np.integer], bits: int, *, channels: int = 1) -> bytes:
    """A gray PNG file that stores each value with ``bits`` bits; with 3 channels, three values make one RGB pixel."""
    height, width = values.shape
    rows = b""
    for row in values.tolist():
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", width // channels, height, bits, 2 if channels == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
