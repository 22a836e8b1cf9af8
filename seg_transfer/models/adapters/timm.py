"""HRNets of timm with a linear head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field, model_validator

from seg_transfer.models.entry import SourceEntry, StrictRGB, check_normalization
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import RGB
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from seg_transfer.models.source_model import SourceModel

# The normalization that timm's HRNets were trained with.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TimmEntry(SourceEntry):
    """An HRNet of timm with one linear layer on its concatenated branches (see `adapters._timm_network`).

    Attributes:
        timm: Name of the network in timm, such as ``hrnet_w48``.
        weights: State dict (safetensors, or ``torch.save``) with names ``backbone.*`` and ``classifier.*``.
        mean, std: RGB, fractions of 255; by default those of ImageNet.
    """

    kind: ClassVar[str] = "timm"
    marker: ClassVar[str] = "timm"
    libraries: ClassVar[tuple[Library, ...]] = (Library("timm", "timm"),)

    timm: Annotated[str, Field(pattern=r"^hrnet_[A-Za-z0-9_.]+$")]
    weights: Path
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_normalization(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        return self

    @property
    def normalization(self) -> tuple[RGB, RGB]:
        """Mean and std, RGB, fractions of 255."""
        return self.mean or _IMAGENET_MEAN, self.std or _IMAGENET_STD

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the name, the weights and the normalization."""
        weights, (mean, std) = sha256_of_weights(self.weights, memo), self.normalization
        return content_key(kind=self.kind, model=self.timm, weights=weights, mean=mean, std=std)

    def load(self, *, device: str = "cpu") -> SourceModel:
        """Load the network; its weights determine the number of classes. Downloads nothing."""
        from seg_transfer.models.adapters._timm_network import load_timm

        return load_timm(self.timm, self.weights, *self.normalization, device=device)

    @property
    def weights_file(self) -> Path:
        """The weights file."""
        return self.weights


ENTRY = TimmEntry
