"""A network whose answer is known: the class of a pixel is the color that it has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from seg_transfer.data.label_ids import LabelIds, class_indices
from seg_transfer.data.record import ImageReading
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import read_network
from seg_transfer.prediction.predictor import Predictor

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
CLASSES = ("sky", "road", "car")


class ByColor(nn.Module):
    """Scores of red, green and blue; sides must be multiples of `multiple`."""

    def __init__(self, multiple: int = 1) -> None:
        super().__init__()
        self.multiple = multiple
        self.classifier = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.eye(3)[..., None, None])
            self.classifier.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        if any(side % self.multiple for side in images.shape[2:]):
            raise ValueError(f"sides must be multiples of {self.multiple}")
        scores: Tensor = self.classifier(images)
        return scores


@pytest.fixture
def predictor() -> Callable[..., Predictor]:
    def make(multiple: int = 1, **fields: Any) -> Predictor:
        source = read_network(ByColor(multiple), Normalization((0.5,) * 3, (0.5,) * 3), classifier="classifier")
        usual = {
            "classes": CLASSES,
            "labels": class_indices(3),
            "short_side": 20,
            "reading": ImageReading(),
            "tiles": Tiles(),
        }
        return Predictor(source, **(usual | fields))

    return make


@pytest.fixture
def paint() -> Callable[..., npt.NDArray[np.integer]]:
    """Write an image of regions in the three colors; returns their classes."""

    def write(path: Path, size: tuple[int, int] = (20, 33), seed: int = 0, **options: Any) -> npt.NDArray[np.integer]:
        coarse = np.random.default_rng(seed).integers(0, 3, (4, 6))
        classes = np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLORS[classes]).save(path, **options)
        return classes

    return write


COLOR_IDS = LabelIds(kind="colors", ids=((9, 8, 7), (200, 0, 0), (0, 0, 77)))
