"""Watching the layers of a network in a forward pass, and reading their outputs as maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.outputs import tensors_in

Layout = Literal["channels_first", "channels_last", "tokens"]
CLASSIFIERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
"""Kinds of layers whose output may be the class scores."""
# Tokens before those of the patches: the class token and registers.
_MOST_PREFIX_TOKENS = 16
_LARGEST_STRIDE = 64


class MapLayer(NamedTuple):
    """A map that is read: an output of a layer, or the input of a classifier.

    Attributes:
        name: Dotted name of the layer; "" is the network itself.
        output: Which tensor of its output, counted in order; `INPUT` means its input.
        channels: Number of channels.
        stride: Pixels per cell.
        layout: Order of its dimensions: (B, C, h, w), (B, h, w, C), or tokens (B, n, C).
        prefix_tokens: Tokens before those of the map.
    """

    name: str
    output: int
    channels: int
    stride: float
    layout: Layout = "channels_first"
    prefix_tokens: int = 0


INPUT = -1


@dataclass
class Recorded:
    """The last inputs and outputs of layers in a forward pass: name -> list of tensors."""

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    scores: dict[str, list[Tensor]] = field(default_factory=dict)
    """Copies of the outputs of possible classifiers: what follows may change these outputs in place."""
    order: list[str] = field(default_factory=list)
    """Names in the order in which the layers finish; a name occurs once per call."""

    def map_of(self, layer: MapLayer, size: Sequence[int]) -> Tensor:
        """Return the map of a layer, (B, C, h, w), for fitted images of this size.

        Raises:
            ConfigError: The network did not use the layer, or its output has changed its form.
        """
        tensors = (self.inputs if layer.output == INPUT else self.outputs).get(layer.name, [])
        position = 0 if layer.output == INPUT else layer.output
        if position >= len(tensors):
            raise ConfigError(f"layer {layer.name!r}: was not used in a forward pass; name another one")
        tensor = tensors[position]
        if layer.layout == "channels_first":
            return tensor
        if layer.layout == "channels_last":
            return tensor.movedim(-1, 1)
        height, width = _sides_of_tokens(tensor.shape[1] - layer.prefix_tokens, size, layer)
        return as_map(tensor[:, layer.prefix_tokens :], height, width)


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Arrange tokens (B, h w, C) as a map (B, C, h, w)."""
    return tokens.movedim(-1, 1).reshape(len(tokens), tokens.shape[-1], height, width)


def covers(sides: Sequence[int], size: Sequence[int]) -> bool:
    """Return whether a map with these sides may cover an image: one scale gives both, up to less than a cell.

    Example:
        >>> covers((12, 20), (96, 160)), covers((12, 21), (96, 161)), covers((92, 156), (96, 160))
        (True, True, False)
    """
    least = max((side - 1) / pixels for side, pixels in zip(sides, size, strict=True))
    return least < min((side + 1) / pixels for side, pixels in zip(sides, size, strict=True))


def as_scores(tokens: Tensor, size: Sequence[int]) -> Tensor | None:
    """Arrange the scores of tokens (B, n, C) as a map of an image of this size; None if they are none."""
    n = tokens.shape[1]
    exact = math.sqrt(n * size[0] / size[1])
    for height in (round(exact), math.floor(exact), math.ceil(exact)):
        if height and n % height == 0 and covers((height, n // height), size):
            return as_map(tokens, height, n // height)
    return None


def _sides_of_tokens(n: int, size: Sequence[int], layer: MapLayer) -> tuple[int, int]:
    for rounded in (math.ceil, math.floor, round):
        height, width = (rounded(side / layer.stride) for side in size)
        if height * width == n:
            return height, width
    raise ConfigError(f"layer {layer.name!r}: {n} tokens are no map of an image of {size[0]} x {size[1]} pixels")


@contextmanager
def recording(
    network: nn.Module, names: Sequence[str] | None = None, classifiers: Sequence[str] = ()
) -> Iterator[Recorded]:
    """Record the inputs and outputs of layers, all of them by default, while the network runs in this context.

    Args:
        network: The network.
        names: The layers; None means all.
        classifiers: Layers among them whose outputs are kept as `Recorded.scores`; of all layers, those that may be.

    Raises:
        ConfigError: The network has no layer of a name.
    """
    recorded = Recorded()
    if names is None:
        modules = dict(network.named_modules())
        scoring = frozenset(name for name, module in modules.items() if isinstance(module, CLASSIFIERS))
    else:  # listing the modules of a large network takes milliseconds in every pass
        require_layers(network, names)
        modules = {name: network.get_submodule(name) for name in names}
        scoring = frozenset(classifiers)
    handles = []

    def record(name: str, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
        recorded.inputs[name] = list(tensors_in([*inputs, *named.values()]))
        recorded.outputs[name] = list(tensors_in(output))
        if name in scoring:
            recorded.scores[name] = [tensor.clone() for tensor in recorded.outputs[name]]
        recorded.order.append(name)

    def hook_for(name: str) -> Any:
        return lambda _module, inputs, named, output: record(name, inputs, named, output)

    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(hook_for(name), with_kwargs=True))
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def is_pointwise(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Return whether a layer maps the vector of every cell by one matrix, and does nothing else.

    Example:
        >>> is_pointwise(nn.Conv2d(8, 2, kernel_size=1)), is_pointwise(nn.Conv2d(8, 2, kernel_size=3))
        (True, False)
    """
    # A subclass, a hook, or a replaced method may do anything.
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return False
    if type(layer) is not nn.Conv2d:
        return type(layer) is nn.Linear
    is_unpadded = layer.padding in ((0, 0), "valid", "same")
    return layer.kernel_size == layer.stride == (1, 1) and is_unpadded and layer.groups == 1


@contextmanager
def returning_zeros(layer: nn.Linear | nn.Conv2d) -> Iterator[None]:
    """Let a pointwise layer return zeros of its output's shape in this context, which costs next to nothing."""

    def zeros(*inputs: Tensor, **named: Tensor) -> Tensor:
        given = next(iter((*inputs, *named.values())))
        if isinstance(layer, nn.Linear):
            return given.new_zeros(*given.shape[:-1], layer.out_features)
        return given.new_zeros(len(given), layer.out_channels, *given.shape[2:])

    layer.forward = zeros  # type: ignore[method-assign]
    try:
        yield
    finally:
        del layer.forward


def require_layers(network: nn.Module, names: Sequence[str]) -> None:
    """Raise ConfigError, with similar names, where a network lacks a layer of one of these names."""
    for name in names:
        if not _has_layer(network, name):
            modules = dict(network.named_modules())
            last = [known for known, module in modules.items() if isinstance(module, CLASSIFIERS)][-3:]
            near = get_close_matches(name, modules, n=3)
            hint = f"similar ones are {', '.join(near)}" if near else f"its last ones are {', '.join(last)}"
            raise ConfigError(f"network {type(network).__name__}: has no layer {name!r}; {hint}")


def _has_layer(network: nn.Module, name: str) -> bool:
    try:
        network.get_submodule(name)
    except AttributeError:
        return False
    return True


def as_layer(name: str, output: int, tensor: Tensor, size: Sequence[int]) -> MapLayer | None:
    """Read a tensor as a map of images of this size, whose sides should differ; None if it is none."""
    if tensor.dim() == 4:
        for layout, sides, channels in (
            ("channels_first", tensor.shape[2:], tensor.shape[1]),
            ("channels_last", tensor.shape[1:3], tensor.shape[3]),
        ):
            stride = size[0] / sides[0]
            if _is_stride(stride) and size[1] / sides[1] == stride:
                return MapLayer(name, output, channels, stride, layout)  # type: ignore[arg-type]
    if tensor.dim() == 3:
        for prefix in range(min(_MOST_PREFIX_TOKENS, tensor.shape[1] - 1) + 1):
            # n = (H / s) (W / s)
            stride = math.sqrt(size[0] * size[1] / (tensor.shape[1] - prefix))
            if _is_stride(stride) and all(side % stride == 0 for side in size):
                return MapLayer(name, output, tensor.shape[2], stride, "tokens", prefix)
    return None


def _is_stride(stride: float) -> bool:
    """Return whether a ratio of sizes is a stride: 14 / 4 is one, but 224 / 197, of a square of attention, is none."""
    return 1 <= stride <= _LARGEST_STRIDE and (2 * stride).is_integer()


def read_maps(recorded: Recorded, layers: Sequence[MapLayer], size: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the maps of layers, float32 (B, C, h, w), for fitted images of this size."""
    return tuple(recorded.map_of(layer, size).to(torch.float32) for layer in layers)
