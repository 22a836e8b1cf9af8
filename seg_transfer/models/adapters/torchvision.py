"""Networks of torchvision: its segmentation models, and its classification models as backbones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from seg_transfer.models.adapters._weights import has_linear_head, n_classes_in
from seg_transfer.models.downloads import download_weights
from seg_transfer.models.entry import SourceEntry, StrictRGB
from seg_transfer.models.files import sha256_of_weights
from seg_transfer.models.libraries import Library
from seg_transfer.models.normalization import IMAGENET, Normalization, check_normalization
from seg_transfer.store.content_key import Key, content_key

if TYPE_CHECKING:
    from torch import nn

# Segmentation model -> the weight of its last layer, as long as there are classes.
_LAST_WEIGHTS = {
    **dict.fromkeys(("fcn_resnet50", "fcn_resnet101"), "classifier.4.weight"),
    **dict.fromkeys(("deeplabv3_resnet50", "deeplabv3_resnet101"), "classifier.4.weight"),
    "deeplabv3_mobilenet_v3_large": "classifier.4.weight",
    "lraspp_mobilenet_v3_large": "classifier.low_classifier.weight",
}
_LINEAR_HEAD = "classifier.weight"
_PUBLISHED = re.compile(r"[A-Z][A-Z0-9_]*")


def _file_or_name(value: object) -> object:
    """Turn a path into one; names of weights have capitals only."""
    return Path(value) if isinstance(value, str) and not _PUBLISHED.fullmatch(value) else value


class TorchvisionEntry(SourceEntry):
    """A network of torchvision.

    Segmentation models give class scores. The others are backbones, whose features are the last maps of every stride;
    where the weights have names ``backbone.*`` and ``classifier.*``, a linear layer on the maps gives class scores.

    Attributes:
        torchvision: Name of the network in torchvision, such as ``deeplabv3_resnet50`` or ``resnet50``.
        weights: Its state dict; or ``DEFAULT``, which is the default, or another name of weights that torchvision
            publishes for the network, which are downloaded. A classification head, and the auxiliary head of a
            segmentation model, are ignored.
        mean, std: RGB, fractions of 255; by default those of ImageNet, which all weights of torchvision use.
    """

    kind: ClassVar[str] = "torchvision"
    marker: ClassVar[str] = "torchvision"
    supports_scores_only: ClassVar[bool] = True
    supports_weights_key: ClassVar[bool] = True
    libraries: ClassVar[tuple[Library, ...]] = (Library("torchvision", "torchvision"),)

    torchvision: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    weights: Annotated[Path | str, BeforeValidator(_file_or_name)] | None = None
    mean: StrictRGB | None = None
    std: StrictRGB | None = None

    @model_validator(mode="after")
    def _usable_normalization(self) -> Self:
        check_normalization(self.name, self.mean, self.std)
        return self

    def key(self, *, memo: Path | None = None) -> Key:
        """Compute the key of the name, the weights and the normalization."""
        mean, std, _ = self.input_normalization()
        key = content_key(
            kind=self.kind,
            model=self.torchvision,
            weights=[sha256_of_weights(file, memo) for file in self.weights_files()],
            mean=mean,
            std=std,
            scores_only=self.scores_only,
        )
        return self.with_weights_key(key)

    def architecture(self) -> dict[str, Any]:
        """Return the network's name, and the number of classes if it has any."""
        name = _LAST_WEIGHTS.get(self.torchvision, _LINEAR_HEAD if self.has_scores else None)
        classes = {} if name is None else {"n_classes": n_classes_in(self._file, name, self.weights_key)}
        return {"kind": self.kind, "model": self.torchvision, **classes}

    @classmethod
    def build(cls, architecture: dict[str, Any], origin: str) -> nn.Module:
        """Build the network with random weights. Downloads nothing."""
        from seg_transfer.models.adapters._torchvision_network import build_torchvision

        return build_torchvision(architecture, origin)

    def load_weights(self, network: nn.Module) -> None:
        """Load the weights; those of heads that the network lacks are ignored."""
        from seg_transfer.models.adapters._torchvision_network import IGNORED_WEIGHTS
        from seg_transfer.models.checkpoints import load_files

        load_files(network, self.weights_files(), ignored=IGNORED_WEIGHTS, weights_key=self.weights_key)

    def weights_files(self) -> tuple[Path, ...]:
        """Return the weights file."""
        return (self._file,)

    def input_normalization(self) -> Normalization:
        """Return the given mean and std, or else those of ImageNet."""
        return Normalization(self.mean or IMAGENET.mean, self.std or IMAGENET.std)

    @property
    def has_scores(self) -> bool:
        """Whether it is a segmentation model, or its weights include a linear head."""
        return self.torchvision in _LAST_WEIGHTS or has_linear_head(self._file)

    @property
    def weights_file(self) -> Path | None:
        """The weights file, if the entry names one."""
        return self.weights if isinstance(self.weights, Path) else None

    @property
    def _file(self) -> Path:
        """The weights file; published weights are downloaded, for which torchvision is imported."""
        if isinstance(self.weights, Path):
            return self.weights
        from seg_transfer.models.adapters._torchvision_network import address_of_weights

        return download_weights(address_of_weights(self.torchvision, self.weights or "DEFAULT", f"source {self.name}"))


ENTRY = TorchvisionEntry
