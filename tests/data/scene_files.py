"""Scenes, in files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio.shutil
from PIL import Image

from seg_transfer.data.record import Record
from seg_transfer.data.scene_tiles import Tiles, with_tiles

HEIGHT, WIDTH, SIZE = 40, 56, 16


def noise(*shape: int, high: int = 256) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(len(shape)).integers(0, high, shape, dtype=np.uint8)


IMAGE, LABEL = noise(HEIGHT, WIDTH, 3), noise(HEIGHT, WIDTH, high=3)


def save(image: Image.Image, path: Path, *, tiled: bool = False, **options: Any) -> None:
    """Save an image; Pillow cannot write tiled TIFF files, so rasterio copies what it wrote."""
    image.save(path, **options)
    if tiled:
        plain = path.rename(path.with_name(f"plain_{path.name}"))
        rasterio.shutil.copy(plain, path, driver="GTiff", tiled=True, blockxsize=16, blockysize=16, compress="deflate")
        plain.unlink()


def two_scenes(folder: Path) -> list[Record]:
    records = []
    for name in ("a", "b"):
        Image.fromarray(noise(HEIGHT, WIDTH, 3)).save(folder / f"{name}.png")
        Image.fromarray(noise(HEIGHT, WIDTH, high=3)).save(folder / f"{name}_l.png")
        records.append(Record(name, folder / f"{name}.png", folder / f"{name}_l.png"))
    return with_tiles(records, Tiles(above=1000, size=SIZE))[0]
