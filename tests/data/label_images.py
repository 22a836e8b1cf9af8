"""Label maps as images in several encodings."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.record import Record

RAMP = np.array([[0, 1, 2, 255], [2, 2, 0, 1], [1, 0, 255, 2]], np.uint8)
COLORS = np.array([[250, 3, 3], [3, 250, 3], [3, 3, 250]], np.uint8)
UNLABELED = (7, 8, 9)


def record_of(path: Path) -> Record:
    """A record whose image and label map are the same file."""
    return Record(path.stem, path, path)


def colored(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The label map painted with ``COLORS``; ignored pixels become ``UNLABELED``."""
    image = np.array([*COLORS, UNLABELED], np.uint8)
    return image[np.where(label == 255, 3, label)]


def rgb_labels(**changes: object) -> dict[str, object]:
    return {"encoding": "rgb", "colours": COLORS.tolist(), "ignore": [list(UNLABELED)]} | changes


def with_palette(label: npt.NDArray[np.uint8], *, transparent: bool = False) -> Image.Image:
    """A palette image whose colors are unrelated to its indices."""
    image = Image.fromarray(label).convert("P")
    image.putdata(label.ravel().tolist())
    image.putpalette([(37 * i + 11) % 256 for i in range(768)])
    if transparent:
        image.info["transparency"] = bytes(range(256))
    return image
