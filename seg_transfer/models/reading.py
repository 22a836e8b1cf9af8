"""Reading a network as a source: which sizes of images it takes, where its scores come from, and what its features are.

All of this is found by running the network on small images.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from seg_transfer.errors import ConfigError
from seg_transfer.models.layers import (
    answers,
    find_classifier,
    last_layer,
    named_layers,
    output_layers,
    stage_layers,
)
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.outputs import is_distribution, run_network, score_maps, single_score_map
from seg_transfer.models.sizes import InputSizes, find_input_sizes, probe_image, probe_size
from seg_transfer.models.soundness import (
    require_finite,
    require_in_place,
    require_map,
    require_repeatable,
    require_scores,
)
from seg_transfer.models.source_model import Features, SourceModel, device_of
from seg_transfer.models.watching import MapLayer, Recorded, recording, require_layers


def read_network(
    network: nn.Module,
    normalization: Normalization,
    *,
    features: Features = None,
    classifier: str | None = None,
    has_scores: bool = True,
    scores_only: bool = False,
    n_classes: int | None = None,
    image_size: tuple[int, int] | None = None,
    sizes: InputSizes | None = None,
) -> SourceModel:
    """Wrap any network as a source: find out by running it which sizes it takes, and which layers its features are.

    Args:
        network: Takes normalized images (B, 3, H, W); switched to evaluation mode.
        normalization: Of the images that it takes.
        features: What counts as features.
        classifier: Dotted name of the layer whose output is the class scores; by default the last linear layer or
            convolution whose output is the network's.
        has_scores: Whether its output is class scores; otherwise, the maps that a backbone returns.
        scores_only: Whether to use only the class scores, and no features.
        n_classes: Its number of classes, if known.
        image_size: Height and width that the network was made for, if known.
        sizes: The sizes that it takes, if known; found otherwise.

    Raises:
        ConfigError: The network fails on images of all sizes, a layer does not exist or gives no map, or the classifier
            does not compute the output.
    """
    network.eval()
    taken = sizes or find_input_sizes(lambda image: _answer(network, image, has_scores=has_scores), image_size)
    images = probe_image(*probe_size(taken)).to(device_of(network)).contiguous(memory_format=torch.channels_last)
    given = images.clone()  # a network may change its input
    with recording(network) as recorded:
        output = run_network(network, given)
    if has_scores:
        require_finite(network, score_maps(output))
    require_repeatable(network, images.clone(), output)
    source = SourceModel(network, normalization, (), None, 0, sizes=taken)
    if has_scores:
        source = _with_scores(source, recorded, output, images, classifier, n_classes, scores_only=scores_only)
    if not scores_only:
        source = replace(source, layers=_layers(source, recorded, output, given, features))
    require_in_place(source, images)
    if scores_only or sizes is not None:
        return source
    return replace(source, sizes=_sizes_for_layers(source, image_size))


def with_features(source: SourceModel, features: Features) -> SourceModel:
    """Return another reading of a source's network; the network is shared. Errors are those of `read_network`."""
    return read_network(
        source.network,
        source.normalization,
        features=features,
        classifier=source.classifier_name,
        has_scores=source.scores_known,
        n_classes=source.n_classes or None,
        image_size=source.sizes.fixed,
    )


def _answer(network: nn.Module, image: Tensor, *, has_scores: bool) -> list[Tensor]:
    """Return the maps that decide whether a network takes images of a size: the scores, or all maps of a backbone."""
    output = run_network(network, image.to(device_of(network)))
    maps = score_maps(output)
    return maps[:1] if has_scores else maps


def _with_scores(
    source: SourceModel,
    recorded: Recorded,
    output: object,
    images: Tensor,
    classifier: str | None,
    n_classes: int | None,
    *,
    scores_only: bool,
) -> SourceModel:
    """Return the source with its classifier, if there is one, and its number of classes."""
    network = source.network
    n_channels = None if n_classes is None else _n_channels(output, n_classes)
    if scores_only:
        name = None
    elif classifier is None:
        name = find_classifier(network, recorded, output, n_channels)
    else:
        name = _checked_classifier(network, recorded, classifier, output)
    if name is None:
        scores = single_score_map(network, output, n_channels)
        require_map(network, "returns scores of", scores.shape[2:], images.shape[2:])
        require_scores(network, scores)
        probabilities = _are_probabilities(network, scores, images)
        return replace(source, n_classes=max(2, scores.shape[1]), outputs_probabilities=probabilities)
    for answer in score_maps(output):
        if answers(recorded, name, answer):
            require_map(network, "returns scores of", answer.shape[2:], images.shape[2:])
    module = network.get_submodule(name)
    n_outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    return replace(source, classifier_name=name, n_classes=max(2, int(n_outputs)))  # type: ignore[arg-type]


def _n_channels(output: object, n_classes: int) -> int:
    """Return the number of channels of the scores of so many classes: a binary network may give one score."""
    channels = {scores.shape[1] for scores in score_maps(output)}
    return 1 if n_classes == 2 and 2 not in channels and 1 in channels else n_classes


def _checked_classifier(network: nn.Module, recorded: Recorded, name: str, output: object) -> str:
    require_layers(network, [name])
    if recorded.order.count(name) > 1:
        raise ConfigError(
            f"network {type(network).__name__}: uses its layer {name!r} {recorded.order.count(name)} times, so it is "
            "open which scores are meant; choose features: stages, or set scores_only: true"
        )
    if name not in recorded.outputs:
        raise ConfigError(f"network {type(network).__name__}: does not use its layer {name!r}; name its last layer")
    if any(answers(recorded, name, scores) for scores in score_maps(output)):
        return name
    raise ConfigError(
        f"network {type(network).__name__}: its class scores are not the output of its layer {name!r}; leave out "
        "classifier to have it found, choose features: stages, or set scores_only: true"
    )


def _are_probabilities(network: nn.Module, scores: Tensor, images: Tensor) -> bool:
    """Return whether scores (B, C, h, w) are probabilities of classes, or of the foreground where C is 1."""
    if scores.shape[1] > 1:
        return is_distribution(scores)
    # Small logits may happen to lie in [0, 1]; those of an image of extreme values do not.
    extreme = single_score_map(network, run_network(network, 100 * images), scores.shape[1])
    return all(bool(((each >= 0) & (each <= 1)).all()) for each in (scores, extreme))


def _layers(
    source: SourceModel, recorded: Recorded, output: object, images: Tensor, features: Features
) -> tuple[MapLayer, ...]:
    network, size = source.network, images.shape[2:]
    if features not in (None, "last", "stages"):
        names = tuple(features or ())
        require_layers(network, names)
        return named_layers(network, recorded, names, size)
    if not source.scores_known:
        # A network that classifies images returns no map.
        layers = output_layers(output, size) or stage_layers(network, recorded, images, ())
        return layers[-1:] if features == "last" else layers
    if features == "last" and source.classifier_name is None:
        raise ConfigError(
            f"network {type(network).__name__}: no last layer gives its class scores, so features: last has no "
            "meaning; choose features: stages, or set scores_only: true to use its class probabilities alone"
        )
    if features == "stages" or source.classifier_name is None:
        return stage_layers(network, recorded, images, score_maps(output), source.classifier_name)
    if features is None:
        # A classifier may see no map, as one that follows an attention over classes.
        with suppress(ConfigError):
            return (last_layer(network, recorded, source.classifier_name, size),)
        return stage_layers(network, recorded, images, score_maps(output), source.classifier_name)
    return (last_layer(network, recorded, source.classifier_name, size),)


def _sizes_for_layers(source: SourceModel, image_size: tuple[int, int] | None) -> InputSizes:
    """Return the sizes at which the maps that are read, and the scores, cover the whole image.

    The scores of a network may, by finer maps, depend on pixels that its coarser maps leave out. Of a linear head, all
    maps that it reads count, so that it takes the sizes that its backbone takes.
    """
    layers: Sequence[MapLayer] = getattr(source.network, "map_layers", source.layers)
    # A smaller map covers all of an image that the network has resized.
    strides = [] if getattr(source.network, "resizes_images", False) else [layer.stride for layer in layers]

    reading, device = replace(source, layers=tuple(layers)), device_of(source.network)
    return find_input_sizes(lambda image: reading.read(image.to(device)), image_size, strides)
