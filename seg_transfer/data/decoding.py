"""Opens image files with Pillow, and reads the raw values of label maps that are images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.errors import DataError

# Files of unknown origin are only opened as one of these; Pillow's other decoders start programs (EPS) or are rare.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I")
_LABEL_MODES = {
    "id": ("L", "1"),
    "palette": ("P", "L"),  # in datasets that mix both, palette indices and gray values mean the same thing
    "id16": SIXTEEN_BIT_MODES,
    "rgb": ("RGB", "RGBA", "P", "L"),
}


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image for the duration of a block, which may decode it.

    Raises:
        DataError: Pillow cannot open or decode the file; the message names it.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; add it or exclude it") from error
    # Pillow's decoders raise errors of many types.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be decoded ({reason}); replace the file or exclude it") from error


def read_raw_values(path: Path, encoding: str) -> npt.NDArray[np.integer]:
    """Decode the raw values of a label map that is an image.

    Args:
        path: The file.
        encoding: "id", "palette", "id16" or "rgb".

    Returns:
        (H, W); a color is encoded as R + 256 G + 65536 B.

    Raises:
        DataError: The file cannot be decoded or does not fit the encoding.
    """
    with open_image(path) as image:
        if image.mode not in _LABEL_MODES[encoding]:
            fitting = [name for name, modes in _LABEL_MODES.items() if image.mode in modes]
            advice = f"declare encoding: {' or '.join(fitting)}" if fitting else "store it with 8 or 16 bits"
            raise DataError(f"{path}: image mode {image.mode!r} does not fit labels.encoding {encoding!r}; {advice}")
        if encoding == "rgb":
            return np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
        return np.asarray(image) if image.mode != "1" else np.asarray(image, np.uint8)


def detect_encoding(path: Path) -> str:
    """Detect the encoding of a label map; gray values count as palette indices, because datasets mix them.

    Raises:
        DataError: The file cannot be opened, or no encoding fits.
    """
    with open_image(path) as image:
        fitting = [name for name in ("palette", "id", "id16", "rgb") if image.mode in _LABEL_MODES[name]]
        if not fitting:
            raise DataError(
                f"{path}: an image of mode {image.mode!r} cannot be a label map; store it with 8 or 16 bits"
            )
        return fitting[0]
