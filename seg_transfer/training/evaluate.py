"""mIoU of a network on an eval split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from seg_transfer.data.images import read_pair, resize_to_short_side
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.records import Record
from seg_transfer.errors import ComputationError, DataError
from seg_transfer.features.images import ahead
from seg_transfer.models.source_model import SourceModel
from seg_transfer.training.iou import SegmentationQuality, confusion_counts, quality
from seg_transfer.training.processes import rank_and_size, summed

_Pixels = npt.NDArray[np.uint8]


def evaluate_on(source: SourceModel, records: Sequence[Record], manifest: DatasetManifest) -> SegmentationQuality:
    """Predict every image and compare with its label map at the map's own resolution.

    The image is resized so that its shorter side is the crop size's shorter side; the class scores are enlarged
    bilinearly to the size of the label map before the best class is taken. Label 255 is never counted. Processes that
    train together share the images, and each gets the whole result.

    Raises:
        DataError: No pixel of the split has a label, or a file is unreadable.
        ComputationError: The network gives scores that are not finite.
    """
    counts = np.zeros((source.n_classes, source.n_classes), np.int64)
    short_side = min(manifest.crop_size)

    def read(record: Record) -> tuple[_Pixels, _Pixels]:
        image, label = read_pair(record, manifest)
        return resize_to_short_side(image, short_side), label

    rank, size = rank_and_size()
    for image, label in ahead(read, records[rank::size]):
        counts += confusion_counts(label, predict(source, image, label.shape), source.n_classes)
    counts = summed(torch.from_numpy(counts)).numpy()
    if not counts.any():
        raise DataError(f"{manifest.name}: no pixel of the eval split has a label; mend its label map or its labels")
    return quality(counts, len(records))


def predict(source: SourceModel, image: _Pixels, size: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Class index of every pixel, (H, W) = `size`, for one uint8 RGB image (h, w, 3)."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    scores = source.feature_maps(pixels).scores
    if not torch.isfinite(scores).all():
        height, width = image.shape[:2]
        raise ComputationError(
            f"network {type(source.network).__name__}: gives scores that are not finite on an image of {height} x "
            f"{width} pixels; it cannot be judged, lower learning_rate or name other weights"
        )
    enlarged = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
    return np.asarray(enlarged[0].argmax(dim=0).cpu().numpy())
