"""New last layers for new classes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.networks import to_device
from seg_transfer.models.normalization import IMAGENET
from seg_transfer.models.reading import read_network
from seg_transfer.models.source_model import SourceModel, device_of
from seg_transfer.models.watching import MapLayer, read_maps, recording

# As mmsegmentation initializes its classifiers.
_STD = 0.01
_CLASSIFIER = "classifier"
# HRNetV2 concatenates its branches at stride 4. At stride 2, as of EfficientNet's first stage, a head would cost four
# times the time and memory. Between the two, because the strides of cut off maps are not whole.
_FINEST_STRIDE = 3


class LinearHead(nn.Module):
    """A network, and a 1x1 convolution on its maps, concatenated at one size.

    That size is the one of the finest map of stride 4 or more; all others are resized bilinearly. Its state dict has
    ``backbone.*``, and ``classifier.weight`` (C, D, 1, 1) and ``classifier.bias``.

    Args:
        backbone: The network.
        layers: The maps, as a `SourceModel` of the network reads them.
        n_classes: Number of classes C.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[MapLayer], n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = tuple(layers)
        self.classifier = nn.Conv2d(sum(layer.channels for layer in layers), n_classes, kernel_size=1)

    @property
    def map_layers(self) -> tuple[MapLayer, ...]:
        """The maps under the names that they have in this network."""
        return tuple(layer._replace(name=f"backbone.{layer.name}".rstrip(".")) for layer in self.layers)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores (B, C, h, w) of normalized images (B, 3, H, W)."""
        with recording(self.backbone, [layer.name for layer in self.layers]) as recorded:
            self.backbone(images)
        maps = read_maps(recorded, self.layers, images.shape[2:])
        size = _common_size(self.layers, maps)
        resized = [_resize(one, size) for one in maps]
        scores: Tensor = self.classifier(torch.cat(resized, dim=1))
        return scores


def _common_size(layers: Sequence[MapLayer], maps: Sequence[Tensor]) -> torch.Size:
    """Return the height and width of the finest map of stride 4 or more, or else of the finest of all."""
    usual = [one for layer, one in zip(layers, maps, strict=True) if layer.stride > _FINEST_STRIDE]
    return max((one.shape[2:] for one in usual or maps), key=math.prod)


def _resize(one: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(one.shape[2:]) == tuple(size):
        return one
    return F.interpolate(one, size=tuple(size), mode="bilinear", align_corners=False)


def with_linear_head(backbone: nn.Module, n_classes: int) -> LinearHead:
    """Put a linear head, with random weights, on all maps of a backbone, as `read_network` reads them.

    Args:
        backbone: Its forward returns maps, or it classifies images.
        n_classes: Number of classes.

    Raises:
        ConfigError: It fails on images of all sizes, or has no map.
    """
    return LinearHead(backbone, read_network(backbone, IMAGENET, has_scores=False).layers, n_classes)


def with_new_head(source: SourceModel, n_classes: int, seed: int) -> SourceModel:
    """Return the source with a new last layer for other classes; its other weights stay, and are shared.

    The layer whose output is the class scores is replaced by one of the same kind. A network without such a layer may
    have a method ``replace_classes(n_classes, generator)``, and an attribute ``class_layer``, the name of what it
    replaces; any other one gets a linear layer on its features.

    Args:
        source: The source; its network is changed.
        n_classes: Number of the new classes.
        seed: Seed of the new weights, normal with a standard deviation of 0.01.

    Raises:
        ConfigError: The network has neither features nor a last layer, or cannot have another number of classes.
    """
    generator = torch.Generator().manual_seed(seed)
    network, name = _changed_network(source, n_classes, generator)
    to_device(network, str(device_of(source.network)))
    return read_network(network, source.normalization, classifier=name, n_classes=n_classes, sizes=source.sizes)


def _changed_network(source: SourceModel, n_classes: int, generator: torch.Generator) -> tuple[nn.Module, str | None]:
    network, name = source.network, source.classifier_name
    if name is not None or getattr(network, "replace_classes", None) is not None:
        replace_last_layer(network, name, n_classes, generator)
        return network, name
    if not source.layers:
        raise ConfigError(
            f"network {type(network).__name__}: gives scores only, and no layer that could be replaced; choose "
            "features: stages for a linear layer on its features"
        )
    head = LinearHead(network, source.layers, n_classes)
    _initialize(head.classifier, generator)
    return head.eval(), _CLASSIFIER


def replace_last_layer(
    network: nn.Module, classifier: str | None, n_classes: int, generator: torch.Generator | None = None
) -> None:
    """Replace the last layer of a network by a random one for other classes.

    Args:
        network: Changed in place.
        classifier: Name of its last layer; None for a network with a method ``replace_classes(n_classes, generator)``.
        n_classes: Number of the new classes.
        generator: Source of the new weights.

    Raises:
        ConfigError: It has no such layer.
    """
    generator = generator or torch.Generator().manual_seed(0)
    if classifier is None:
        replace_classes: Callable[[int, torch.Generator], None] | None = getattr(network, "replace_classes", None)
        if replace_classes is None:
            raise ConfigError(f"network {type(network).__name__}: has no last layer that is named; train it again")
        replace_classes(n_classes, generator)
        return
    try:
        old = network.get_submodule(classifier)
        new = _new_layer(old, n_classes, generator)
        for name in [name for name, module in network.named_modules(remove_duplicate=False) if module is old]:
            network.set_submodule(name, new)  # it may have several names
    except (AttributeError, AssertionError) as error:
        raise ConfigError(f"network {type(network).__name__}: has no last layer {classifier!r} to replace") from error


def _new_layer(old: nn.Module, n_classes: int, generator: torch.Generator) -> nn.Module:
    """Return a new layer of the same kind."""
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, n_classes, bias=old.bias is not None)
    else:
        # A copy has all settings of a convolution; its output channels and weights are then replaced.
        assert isinstance(old, nn.Conv2d | nn.ConvTranspose2d)
        new = copy.deepcopy(old)
        new.out_channels, new.groups = n_classes, 1
        sides = old.kernel_size
        channels = (n_classes, old.in_channels) if isinstance(old, nn.Conv2d) else (old.in_channels, n_classes)
        new.weight = nn.Parameter(torch.empty(*channels, *sides))
        new.bias = None if old.bias is None else nn.Parameter(torch.empty(n_classes))
    _initialize(new, generator)
    return new


def _initialize(layer: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in layer.named_parameters():
        values = (
            torch.randn(parameter.shape, generator=generator) * _STD
            if name == "weight"
            else torch.zeros(parameter.shape)
        )
        parameter.data = values
