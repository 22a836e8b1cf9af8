"""Training images: random scale, crop and flip, each drawn from a generator keyed by the number of the sample.

Sample k of a run is the same crop in any order, in any process and after resuming. A resumed run therefore continues
without reading earlier samples again, and ends with the same weights.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import Dataset

from seg_transfer.data.images import LabelMap, read_pair
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.training.schedule import Schedule

_Pixels = npt.NDArray[np.uint8]
Pack = Callable[[_Pixels, LabelMap, Path], dict[str, Any]]


class TrainingCrops(Dataset[dict[str, Any]]):
    """Sample number -> crop as mmseg takes it: uint8 BGR `inputs` (3, h, w), and `data_samples` with its labels.

    Every epoch contains each record once, in its own order. `packed` gives the same crops in another form.

    Args:
        records: The training images and their labels.
        manifest: Their dataset.
        schedule: Batch size, steps and augmentation.
        seed: Seed of order and augmentation.
    """

    def __init__(self, records: list[Record], manifest: DatasetManifest, schedule: Schedule, seed: int) -> None:
        self.records = records
        self.manifest = manifest
        self.schedule = schedule
        self.seed = seed
        self.metainfo = {"classes": list(manifest.classes)}
        self._pack: Pack = as_mmseg

    def packed(self, pack: Pack) -> Self:
        """Return the same crops in another form, such as that of `as_tensors`."""
        packed = copy.copy(self)
        packed._pack = pack
        return packed

    def __len__(self) -> int:
        return self.schedule.steps * self.schedule.batch_size

    def __getitem__(self, number: int) -> dict[str, Any]:
        epoch, position = divmod(number, len(self.records))
        record = self.records[_order(self.seed, epoch, len(self.records))[position]]
        image, label = read_pair(record, self.manifest)
        height, width = self.schedule.crop_size or self.manifest.crop_size
        image, label = random_crop(image, label, (height, width), self.schedule, _generator(self.seed, "crop", number))
        return self._pack(image, label, record.image)


def random_crop(
    image: _Pixels, label: LabelMap, size: tuple[int, int], schedule: Schedule, generator: np.random.Generator
) -> tuple[_Pixels, LabelMap]:
    """Scale, crop and flip an image and its labels at random.

    Args:
        image: uint8 RGB (H, W, 3).
        label: Class indices, uint8 or uint16 (H, W).
        size: Height and width (h, w) of the crop.
        schedule: Range of scales and probability of a flip.
        generator: Source of randomness.

    Returns:
        Image (h, w, 3) and labels (h, w). Pixels beyond the edge of the image are black and ignored.
    """
    low, high = (math.log(bound) for bound in schedule.scale_range)
    factor = math.exp(generator.uniform(low, high)) * min(size) / min(label.shape)
    scaled = [max(1, round(side * factor)) for side in label.shape]
    top, left = (int(generator.integers(0, max(0, s - c) + 1)) for s, c in zip(scaled, size, strict=True))
    flip = generator.random() < schedule.flip_probability

    # The window is cut from the original and resized in one step, so that pixels outside the crop are never resized.
    shown = [min(s, c) for s, c in zip(scaled, size, strict=True)]
    down, across = (full / s for full, s in zip(label.shape, scaled, strict=True))
    box = (left * across, top * down, (left + shown[1]) * across, (top + shown[0]) * down)
    target = (shown[1], shown[0])
    pixels = np.zeros((*size, 3), np.uint8)
    # Pillow rounds positions in 16-bit images differently.
    resizable = Image.fromarray(label if label.dtype == np.uint8 else label.astype(np.int32))
    # The ignored index is the largest number of either type.
    ids = np.full(size, np.iinfo(label.dtype).max, label.dtype)
    pixels[: shown[0], : shown[1]] = np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR, box))
    ids[: shown[0], : shown[1]] = np.asarray(resizable.resize(target, Image.Resampling.NEAREST, box))
    return (pixels[:, ::-1], ids[:, ::-1]) if flip else (pixels, ids)


def as_mmseg(image: _Pixels, label: LabelMap, path: Path) -> dict[str, Any]:
    """Pack one image (h, w, 3) and its labels (h, w) as mmseg's models take them; mmseg reads images as BGR."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.from_numpy(np.ascontiguousarray(label)).long()[None]
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo={"img_path": str(path)})
    bgr = np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1))
    return {"inputs": torch.from_numpy(bgr), "data_samples": sample}


def as_tensors(image: _Pixels, label: LabelMap, path: Path) -> dict[str, Any]:
    """Pack one image (h, w, 3) and its labels (h, w) as `SegmentationTask` takes them: RGB `inputs`, and `labels`."""
    rgb = np.ascontiguousarray(image.transpose(2, 0, 1))
    return {"inputs": torch.from_numpy(rgb), "labels": torch.from_numpy(np.ascontiguousarray(label)).long()}


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n_records: int) -> npt.NDArray[np.int64]:
    return _generator(seed, "epoch", epoch).permutation(n_records)


def _generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
