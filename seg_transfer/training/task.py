"""Training of networks of any library: normalized crops in, cross entropy of the enlarged class scores out.

This module imports mmengine, which is optional, at the top: import it late.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.models.compat import quiet
from seg_transfer.models.outputs import enlarge
from seg_transfer.models.source_model import SourceModel

with quiet():
    from mmengine.model import BaseModel


class SegmentationTask(BaseModel):  # type: ignore[misc]
    """A source model with a new last layer, in the form that mmengine's Runner trains.

    Attributes:
        source: The source model; its network is trained in place.
        network: Its network.
        ignore_index: Label of pixels without a class.
    """

    def __init__(self, source: SourceModel, ignore_index: int) -> None:
        super().__init__()
        self.source = source
        self.network = source.network
        self.ignore_index = ignore_index

    @property
    def head(self) -> list[str]:
        """Names of the parameters of the new last layer; [] if the network does not say which layer that is."""
        layer = self.source.classifier_name or getattr(self.network, "class_layer", None)
        last = set() if layer is None else set(map(id, self.network.get_submodule(layer).parameters()))
        return [name for name, parameter in self.named_parameters() if id(parameter) in last]

    def forward(
        self, inputs: Tensor | Sequence[Tensor], labels: Sequence[Tensor] = (), mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor]:
        """Compute class scores, or the loss of a batch.

        Args:
            inputs: For ``tensor``, normalized images (B, 3, H, W). For ``loss``, B images, uint8 RGB (3, H, W).
            labels: Class indices of the images, int64 (H, W).
            mode: ``tensor`` or ``loss``.

        Returns:
            For ``tensor``, the class scores (B, C, h, w). For ``loss``, the cross entropy, as ``loss_ce``.
        """
        if isinstance(inputs, Tensor):
            return self.source.class_scores(inputs)[0]
        assert mode == "loss"
        images = self.source.normalize(torch.stack(list(inputs)), *self.source.normalization[:2])
        classes = torch.stack(list(labels))
        scores, extent = self.source.class_scores(images)
        height, width = classes.shape[1:]
        return {
            "loss_ce": labeled_cross_entropy(
                enlarge(scores.float(), extent, (height, width)), classes, self.ignore_index
            )
        }


def labeled_cross_entropy(scores: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Compute the mean cross entropy of the labeled pixels; 0 if no pixel has a label.

    Args:
        scores: Logits, float32 (B, C, H, W).
        labels: Class indices, int64 (B, H, W).
        ignore_index: Label of pixels that are left out.

    Example:
        >>> float(labeled_cross_entropy(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 255]]]), 255))
        0.6931471824645996
    """
    total = F.cross_entropy(scores, labels, ignore_index=ignore_index, reduction="sum")
    return total / (labels != ignore_index).sum().clamp_min(1)
