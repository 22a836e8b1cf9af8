"""Three small scenes with label maps, which tests of the audit store in their own ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.corpus.files import gray8, made, write_image
from data.corpus.scenes import Scene, colors, shapes

Write = Callable[[Path, Any], object]
HEIGHT, WIDTH = 40, 56
STEMS = ("a", "b", "c")
SPLIT = {"images": "train/images/*", "labels": "train/labels/*"}


def write(
    root: Path, label: Write = gray8, image: Write = write_image, images: str = ".png", labels: str = ".png"
) -> list[Scene]:
    """Write three scenes of three classes."""
    scenes = [Scene(colors(HEIGHT, WIDTH, seed), shapes(HEIGHT, WIDTH)) for seed in range(len(STEMS))]
    for stem, scene in zip(STEMS, scenes, strict=True):
        image(made(root / "mini/train/images" / f"{stem}{images}"), scene.image)
        label(made(root / "mini/train/labels" / f"{stem}{labels}"), scene.label)
    return scenes
