"""Describing what a network is read as: its stages, classifier and sizes, its normalization and its costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.heads import LinearHead
from seg_transfer.models.network_costs import network_costs
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import with_features
from seg_transfer.models.sizes import InputSizes
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.watching import INPUT, MapLayer
from seg_transfer.store.network_costs import NetworkCosts


@dataclass(frozen=True)
class MapDescription:
    """A map of a network.

    Attributes:
        layer: What it is: the output or input of a layer, by its dotted name.
        stride: Pixels per cell.
        channels: Number of channels.
    """

    layer: str
    stride: float
    channels: int


@dataclass(frozen=True)
class ClassifierDescription:
    """The layer whose output is the class scores.

    Attributes:
        name: Dotted name.
        kind: "convolution", "transposed convolution" or "linear layer".
        kernel: Height and width of a convolution's kernel; (1, 1) for a linear layer.
    """

    name: str
    kind: str
    kernel: tuple[int, int]


@dataclass(frozen=True)
class ModelDescription:
    """What a network is read as, as plain data.

    Attributes:
        network: Name of its class, or of that of the backbone under a linear head.
        features: The maps that together are the features of a pixel; () where only class scores are used.
        stages: The maps that would be read with ``features: stages``; () if it has none.
        classifier: The layer whose output is the class scores; None if there is no such layer.
        n_classes: Number of classes; 0 for a backbone.
        outputs_probabilities: Whether the network returns probabilities instead of logits.
        sizes: The sizes of images that it takes.
        normalization: Mean, std and channel order of these images.
        costs: Its parameters, and the operations of one image.
    """

    network: str
    features: tuple[MapDescription, ...]
    stages: tuple[MapDescription, ...]
    classifier: ClassifierDescription | None
    n_classes: int
    outputs_probabilities: bool
    sizes: InputSizes
    normalization: Normalization
    costs: NetworkCosts

    def as_dict(self) -> dict[str, Any]:
        """Return the description as nested dictionaries, for JSON."""
        return asdict(self) | {"normalization": self.normalization._asdict()}


def describe(source: SourceModel) -> ModelDescription:
    """Describe what a network is read as.

    Args:
        source: The source.

    Raises:
        ConfigError: The network fails.
    """
    return ModelDescription(
        network=_network(source.network),
        features=tuple(map(_map, source.layers)),
        stages=tuple(map(_map, _stages(source))),
        classifier=_classifier(source),
        n_classes=source.n_classes,
        outputs_probabilities=source.outputs_probabilities,
        sizes=source.sizes,
        normalization=source.normalization,
        costs=network_costs(source),
    )


def _network(network: nn.Module) -> str:
    if isinstance(network, LinearHead):
        return f"{_network(network.backbone)} with a linear head"
    return type(network).__name__


def _map(layer: MapLayer) -> MapDescription:
    name = layer.name or "the network"
    what = f"input of {name}" if layer.output == INPUT else f"output of {name}"
    return MapDescription(what, layer.stride, layer.channels)


def _stages(source: SourceModel) -> tuple[MapLayer, ...]:
    """Return the layers that ``features: stages`` would read."""
    if not source.scores_known:
        return source.layers
    try:
        return with_features(source, "stages").layers
    except ConfigError:  # none of its layers gives a map
        return ()


def _classifier(source: SourceModel) -> ClassifierDescription | None:
    layer = source.classifier
    if layer is None or source.classifier_name is None:
        return None
    if isinstance(layer, nn.Linear):
        return ClassifierDescription(source.classifier_name, "linear layer", (1, 1))
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    kind = "convolution" if isinstance(layer, nn.Conv2d) else "transposed convolution"
    height, width = layer.kernel_size
    return ClassifierDescription(source.classifier_name, kind, (height, width))
