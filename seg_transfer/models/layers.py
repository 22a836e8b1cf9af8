"""What of a network counts as features: layers, found by watching one forward pass.

Every reading is a list of layers, each of whose outputs is a map. `last` is the input of the layer that gives the class
scores; `stages` has the last map of every stride, as the branches of an HRNetV2 are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.outputs import matches_output, score_maps, tensors_in
from seg_transfer.models.watching import CLASSIFIERS, INPUT, MapLayer, Recorded, as_layer, as_scores

_N_BLOCKS = 4
# A module that gives maps of so many strides gives all stages that it has; of two, one may be for an auxiliary head.
_PYRAMID = 3


def find_classifier(
    network: nn.Module, recorded: Recorded, output: object, n_channels: int | None = None
) -> str | None:
    """Return the name of the last layer whose output is the network's answer; None if there is none.

    Args:
        network: The network.
        recorded: What all its layers did in a forward pass.
        output: What the network returned.
        n_channels: Consider only answers of this many channels.
    """
    modules = dict(network.named_modules())
    names = [name for name in reversed(recorded.order) if isinstance(modules[name], CLASSIFIERS)]
    # Of a layer that is used again, on maps of several strides for example, it is open which use is meant.
    names = [name for name in names if names.count(name) == 1]
    for scores in score_maps(output):  # auxiliary heads come after the main one
        if n_channels in (None, scores.shape[1]):
            for name in names:
                if answers(recorded, name, scores):
                    return name
    return None


def answers(recorded: Recorded, name: str, scores: Tensor) -> bool:
    """Return whether the output of a layer is a score map (B, C, h, w) of the network's answer."""
    return any(
        matches_output(given, scores)
        for tensor in recorded.scores.get(name, recorded.outputs.get(name, []))
        for given in _possible_scores(tensor, scores)
    )


def _possible_scores(tensor: Tensor, scores: Tensor) -> Iterator[Tensor]:
    if tensor.dim() == 4:
        yield tensor
        yield tensor.movedim(-1, 1)
    elif tensor.dim() == 3 and (map_of_tokens := as_scores(tensor, scores.shape[2:])) is not None:
        yield map_of_tokens


def last_layer(network: nn.Module, recorded: Recorded, classifier: str, size: Sequence[int]) -> MapLayer:
    """Return the input of a classifier.

    Raises:
        ConfigError: It is no map.
    """
    tensor = recorded.inputs[classifier][0]
    module = network.get_submodule(classifier)
    n_features: int = module.in_features if isinstance(module, nn.Linear) else module.in_channels  # type: ignore[assignment]
    if isinstance(module, nn.Linear) and tensor.dim() == 4:
        return MapLayer(classifier, INPUT, n_features, size[0] / tensor.shape[1], "channels_last")
    if tensor.dim() == 4:
        return MapLayer(classifier, INPUT, n_features, size[0] / tensor.shape[2])
    layer = as_layer(classifier, INPUT, tensor, size)
    if layer is None:
        raise ConfigError(
            f"network {type(network).__name__}: its classifier {classifier} sees no feature map, but a tensor of "
            f"shape {tuple(tensor.shape)}; choose other features, such as features: stages"
        )
    return layer


def stage_layers(
    network: nn.Module, recorded: Recorded, images: Tensor, scores: Sequence[Tensor], classifier: str | None = None
) -> tuple[MapLayer, ...]:
    """Find the last map of every stride, finest first; of a network of one stride, four evenly spaced blocks.

    Args:
        network: The network.
        recorded: What all its layers did with the images.
        images: (1, 3, H, W), with different sides where the network takes such images.
        scores: The network's answer, (1, C, h, w); maps of class scores are no features.
        classifier: The layer whose output is the answer, if there is one; what follows it does not count.

    Raises:
        ConfigError: There is no map.
    """
    size = images.shape[2:]
    maps = _computed_maps(network, recorded, images, scores, classifier)
    strides = {
        name: (_strides(recorded.inputs[name], size), _strides(recorded.outputs[name], size))
        for name in _considered(network, recorded)
    }
    by_stride = {layer.stride: layer for layer in maps if not _is_intermediate(layer, strides)}
    if not by_stride:
        raise ConfigError(f"network {type(network).__name__}: none of its layers gives a map; name layers as features")
    if len(by_stride) == 1:
        (layer,) = by_stride.values()
        return _evenly_spaced(_blocks(network, recorded, layer, size)) or (layer,)
    return tuple(by_stride[stride] for stride in sorted(by_stride))


def _computed_maps(
    network: nn.Module, recorded: Recorded, images: Tensor, scores: Sequence[Tensor], classifier: str | None
) -> Iterator[MapLayer]:
    """Yield the maps that layers compute, in the order in which the layers finish, up to the classifier.

    A layer that passes on its input, or only resizes it, computes no map. Of several layers that return the same
    tensor, the outermost is the last.
    """
    modules = dict(network.named_modules())
    for name in _considered(network, recorded):
        if name == classifier or not name:
            return
        passed = {tensor.data_ptr() for tensor in [images, *recorded.inputs[name]]}
        has_weights = next(modules[name].parameters(), None) is not None
        for output, tensor in enumerate(recorded.outputs[name]):
            is_new = tensor.is_floating_point() and tensor.data_ptr() not in passed and len(tensor) == len(images)
            layer = as_layer(name, output, tensor, images.shape[2:]) if is_new else None
            keeps_size = any(tensor.shape == given.shape for given in recorded.inputs[name])
            if layer and (has_weights or keeps_size) and not _are_scores(modules[name], layer, recorded, scores):
                yield layer


def _considered(network: nn.Module, recorded: Recorded) -> list[str]:
    """Return the layers in the order in which they finish, up to the one that the network names as the end of stages.

    A module that contains that end, and also gives maps of what follows, does not count.
    """
    end: str | None = getattr(network, "stages_end", None)
    return recorded.order[: recorded.order.index(end) + 1] if end in recorded.order else recorded.order


def _are_scores(module: nn.Module, layer: MapLayer, recorded: Recorded, scores: Sequence[Tensor]) -> bool:
    """Return whether a map is class scores: those of the answer, or of a layer with one output per class."""
    return any(
        layer.channels == answer.shape[1] and (isinstance(module, CLASSIFIERS) or answers(recorded, layer.name, answer))
        for answer in scores
    )


def _strides(tensors: Sequence[Tensor], size: Sequence[int]) -> set[float]:
    layers = (as_layer("", 0, tensor, size) for tensor in tensors)
    return {layer.stride for layer in layers if layer is not None}


def _is_intermediate(layer: MapLayer, strides: Mapping[str, tuple[set[float], set[float]]]) -> bool:
    """Return whether a map is a step on the way to a stage, given the strides of the maps that modules take and give.

    It is one inside a module that takes maps of its stride and gives none, such as a block that halves the size, and
    inside a module that gives maps of many strides: an encoder's stages are what it gives, without its stem.
    """
    parts = layer.name.split(".")
    around = [".".join(parts[:n]) for n in range(1, len(parts))]
    pairs = [strides[name] for name in around if name in strides]
    return any(
        len(given) >= _PYRAMID or (taken == {layer.stride} and given and layer.stride not in given)
        for taken, given in pairs
    )


def _blocks(network: nn.Module, recorded: Recorded, layer: MapLayer, size: Sequence[int]) -> list[MapLayer]:
    """Return the longest row of equal blocks in one list of modules, each of which gives a map like `layer`."""
    longest: list[MapLayer] = []
    later = set(recorded.order) - set(_considered(network, recorded))
    for parent, container in network.named_modules():
        if not isinstance(container, nn.ModuleList | nn.Sequential):
            continue
        for _, group in groupby(container.named_children(), key=lambda child: type(child[1])):
            names = [f"{parent}.{child}" if parent else child for child, _ in group]
            names = [name for name in names if name not in later]
            found = [_same_map(recorded, name, layer, size) for name in names]
            blocks = [block for block in found if block is not None]
            if len(blocks) == len(names) and len(blocks) > len(longest):
                longest = blocks
    return longest if len(longest) > 1 else []


def _same_map(recorded: Recorded, name: str, like: MapLayer, size: Sequence[int]) -> MapLayer | None:
    tensors = recorded.outputs.get(name, [])
    layers = (as_layer(name, index, tensor, size) for index, tensor in enumerate(tensors))
    return next((layer for layer in layers if layer is not None and layer.stride == like.stride), None)


def _evenly_spaced(blocks: Sequence[MapLayer]) -> tuple[MapLayer, ...]:
    """Return four of the blocks, the last one among them; all if there are fewer."""
    n = min(_N_BLOCKS, len(blocks))
    return tuple(blocks[math.ceil((place + 1) * len(blocks) / n) - 1] for place in range(n))


def output_layers(output: object, size: Sequence[int]) -> tuple[MapLayer, ...]:
    """Return the maps that a backbone returns: the last one of every stride, or all if they have one stride."""
    tensors = enumerate(tensors_in(output))
    layers = [layer for index, tensor in tensors if (layer := as_layer("", index, tensor, size)) is not None]
    by_stride = {layer.stride: layer for layer in layers}
    if len(by_stride) == 1:
        return tuple(layers)
    return tuple(by_stride[stride] for stride in sorted(by_stride))


def named_layers(
    network: nn.Module, recorded: Recorded, names: Sequence[str], size: Sequence[int]
) -> tuple[MapLayer, ...]:
    """Return all maps in the outputs of layers.

    Raises:
        ConfigError: A layer is not used, or gives no map.
    """
    found: list[MapLayer] = []
    for name in names:
        # One image was given: more would be windows or heads of attention.
        tensors = [(index, tensor) for index, tensor in enumerate(recorded.outputs.get(name, [])) if len(tensor) == 1]
        layers = [layer for index, tensor in tensors if (layer := as_layer(name, index, tensor, size)) is not None]
        if not layers:
            shapes = [tuple(tensor.shape) for tensor in recorded.outputs.get(name, [])]
            what = f"gives no map, but {shapes}" if shapes else "is not used"
            raise ConfigError(f"network {type(network).__name__}: layer {name!r} {what}; name another one")
        found += layers
    return tuple(found)
