"""Decodes image files to RGB."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from seg_transfer.data.decoding import SIXTEEN_BIT_MODES, open_image
from seg_transfer.errors import DataError


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image to RGB.

    Alpha is dropped without blending, and 16-bit gray is reduced to its high byte.

    Returns:
        (H, W, 3), 0 to 255.

    Raises:
        DataError: The file is missing, truncated or of an unknown format.
    """
    with open_image(path) as image:
        if image.mode in SIXTEEN_BIT_MODES:
            gray = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(gray[..., None], 3, axis=2)
        if image.mode == "F":
            raise DataError(f"{path}: floating-point pixels have no agreed range; store the image with 8 or 16 bits")
        # Pillow warns when a palette with transparency is converted to RGB directly.
        is_opaque = "transparency" not in image.info
        return np.array(image.convert("RGB") if is_opaque else image.convert("RGBA").convert("RGB"))


def read_size(path: Path) -> tuple[int, int]:
    """Read (height, width), in pixels, from the header of an image file."""
    with open_image(path) as image:
        return image.height, image.width
