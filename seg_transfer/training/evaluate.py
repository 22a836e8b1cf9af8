"""Measuring the mIoU of a network on an eval split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seg_transfer.data.images import LabelMap, read_pair, resize_to_short_side
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.prefetch import prefetch
from seg_transfer.data.record import Record
from seg_transfer.errors import ComputationError, DataError
from seg_transfer.models.outputs import enlarge
from seg_transfer.models.sizes import Extent
from seg_transfer.models.source_model import SourceModel
from seg_transfer.training.iou import SegmentationQuality, confusion_counts, segmentation_quality
from seg_transfer.training.processes import rank_and_size, sum_over_processes

_Pixels = npt.NDArray[np.uint8]
_CLASSES_AT_ONCE = 256


def evaluate_on(source: SourceModel, records: Sequence[Record], manifest: DatasetManifest) -> SegmentationQuality:
    """Measure mIoU: predict every image and compare with its label map at the label map's own resolution.

    The image is resized so that its shorter side is the crop size's shorter side; the class scores are enlarged
    bilinearly to the size of the label map before the argmax. Ignored pixels are never counted. Processes that train
    together share the images, and each returns the whole result.

    Args:
        source: The network.
        records: Images and labels of the eval split.
        manifest: Their dataset.

    Returns:
        mIoU and IoU per class, fractions in [0, 1].

    Raises:
        DataError: No pixel of the split has a label, or a file is unreadable.
        ComputationError: The network returns scores that are not finite.
    """
    counts = np.zeros((source.n_classes, source.n_classes), np.int64)
    rank, size = rank_and_size()
    for _, label, predicted in predicted_pairs(source, records[rank::size], manifest):
        counts += confusion_counts(label, predicted, source.n_classes, manifest.ignore_index)
    counts = sum_over_processes(torch.from_numpy(counts)).numpy()
    if not counts.any():
        raise DataError(f"{manifest.name}: no pixel of the eval split has a label; fix its label map or its labels")
    return segmentation_quality(counts, len(records))


def predicted_pairs(
    source: SourceModel, records: Sequence[Record], manifest: DatasetManifest
) -> Iterator[tuple[_Pixels, LabelMap, npt.NDArray[np.int64]]]:
    """Yield every image as the network sees it, its label map, and the prediction at the label map's resolution.

    Raises:
        DataError: A file is unreadable.
        ComputationError: The network returns scores that are not finite.
    """
    short_side = min(manifest.crop_size)

    def read(record: Record) -> tuple[_Pixels, LabelMap]:
        image, label = read_pair(record, manifest)
        return resize_to_short_side(image, short_side), label

    for image, label in prefetch(read, records):
        yield image, label, predict(source, image, label.shape)


def predict(source: SourceModel, image: _Pixels, size: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Predict the class of every pixel of one image.

    Args:
        source: The network.
        image: uint8 RGB (h, w, 3).
        size: Height and width (H, W) of the prediction.

    Returns:
        Class indices, int64 (H, W).

    Raises:
        ComputationError: The network returns scores that are not finite.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    maps = source.feature_maps(pixels)
    scores = maps.scores
    assert scores is not None
    if not torch.isfinite(scores).all():
        height, width = image.shape[:2]
        raise ComputationError(
            f"network {type(source.network).__name__}: gives scores that are not finite on an image of {height} x "
            f"{width} pixels; it cannot be evaluated; lower learning_rate or name other weights"
        )
    return np.asarray(_best_class(scores, maps.extent, size).cpu().numpy())


def _best_class(scores: Tensor, extent: Extent, size: tuple[int, ...]) -> Tensor:
    """Enlarge class scores (1, C, h, w), and return the class of the highest one, (H, W); the first of equal ones."""
    if scores.shape[1] <= _CLASSES_AT_ONCE:
        return enlarge(scores, extent, size)[0].argmax(dim=0)
    # All at once, 4096 classes would take 4 GiB per 512 x 512 pixels.
    parts = [enlarge(part, extent, size)[0].max(dim=0) for part in torch.split(scores, _CLASSES_AT_ONCE, dim=1)]
    part_of_best = torch.stack([part.values for part in parts]).argmax(dim=0)
    index_in_part = torch.stack([part.indices for part in parts]).gather(0, part_of_best[None])[0]
    return part_of_best * _CLASSES_AT_ONCE + index_in_part
