"""Evidence of masks that are made from arrays."""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.inspection.evidence import MaskEvidence, look_at_mask


@dataclass(frozen=True)
class Names:
    file: Path = Path("names.txt")
    by_line: tuple[str, ...] = ()
    by_id: dict[int, str] = field(default_factory=dict)
    by_color: dict[tuple[int, int, int], str] = field(default_factory=dict)


def encoded(picture: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    content = BytesIO()
    picture.save(content, image_format, **options)
    return content.getvalue()


def blocks(*values: Any, side: int = 8, dtype: type = np.uint8) -> npt.NDArray[Any]:
    """A mask of squares, one per value, in a row."""
    row = np.repeat(np.array(values, dtype), side, axis=0)
    return np.repeat(row[None], side, axis=0)


def seen(picture: npt.NDArray[Any] | Image.Image, name: str = "m.png", **options: Any) -> MaskEvidence:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    suffix = name.rsplit(".", 1)[1]
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    return look_at_mask(encoded(image, formats.get(suffix, suffix.upper()), **options), name)


def disks(*values: int, side: int = 96, background: int = 0) -> npt.NDArray[np.uint8]:
    """Large disks on a background, with curved edges as drawn masks have."""
    rows, columns = np.mgrid[:side, : side * len(values)]
    mask = np.full(rows.shape, background, np.uint8)
    for position, value in enumerate(values):
        mask[(rows - side / 2) ** 2 + (columns - side * (position + 0.5)) ** 2 < (0.37 * side) ** 2] = value
    return mask


@dataclass(frozen=True)
class Held:
    """A file in memory, as one in a cell of a table."""

    content: bytes

    def open(self, mode: str = "rb") -> BytesIO:
        return BytesIO(self.content)
