"""Two small images with label maps in the working directory, as somebody has them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDERS = ("--images", "images", "--labels", "labels")
ROTATED = 3  # the EXIF orientation of a picture that was taken upside down


def save(file: str, pixels: Any) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file)


def masks() -> dict[str, Any]:
    """Of 160 pixels, 95 are 0, 35 are 1, 20 are 2, and 10 are not labeled."""
    first, second = np.zeros((8, 10)), np.zeros((8, 10))
    first[:, 5:] = 1
    first[0] = 255
    second[4:, 5:] = 2
    return {"a": first, "b": second}


def write_folders() -> None:
    """Write the folders images and labels."""
    for name, mask in masks().items():
        save(f"labels/{name}.png", mask)
        save(f"images/{name}.png", np.random.default_rng(0).integers(0, 256, (8, 10, 3)))


def rotate(*files: Path) -> None:
    """State in image files that they were taken upside down."""
    for file in files:
        with Image.open(file) as image:
            exif = image.getexif()
            exif[0x0112] = ROTATED
            image.save(file, exif=exif)
