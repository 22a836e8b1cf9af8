"""Loading networks: of an entry of any kind, of an mmseg config, and those that were trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models import adapters
from seg_transfer.models.checkpoints import load_files
from seg_transfer.models.configs import ModelConfig, n_classes_of, origin_of, resolve
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.heads import LinearHead, replace_last_layer
from seg_transfer.models.memory import bounded_memory, refuse_large_numbers
from seg_transfer.models.networks import build_network, classifier_name, load_weights, to_device
from seg_transfer.models.normalization import Normalization, check_usable, normalization_of
from seg_transfer.models.reading import read_network
from seg_transfer.models.sizes import InputSizes
from seg_transfer.models.source_model import Features, SourceModel
from seg_transfer.models.trained import KIND, code_of, is_of_other_kind, read_trained
from seg_transfer.models.watching import MapLayer


def load_source(entry: SourceEntry, device: str) -> SourceModel:
    """Build the network of an entry, load its weights, and read it as a source.

    Raises:
        ConfigError: The network cannot be built, its library is missing, or its features cannot be read.
        CheckpointError: Its weights are missing, unsafe, or do not fit.
    """
    origin = f"source {entry.name}"
    if entry.scores_only and not entry.has_scores:
        raise ConfigError(f"{origin}: field scores_only: it is a backbone without class scores; remove the field")
    normalization = check_usable(entry.input_normalization(), origin)
    weights = () if entry.code() else entry.weights_files()  # code that the user trusts may take what it needs
    with bounded_memory(origin, weights):
        # In float32 before the weights are loaded, because half precision differs between devices.
        architecture = entry.architecture()
        refuse_large_numbers(architecture, origin)
        network = type(entry).build(architecture, origin).float()
        entry.load_weights(network)
    with bounded_memory(origin, _on_cpu(weights, device)):
        return read_network(
            to_device(network, device),
            normalization,
            features=entry.features,
            classifier=entry.classifier_name,
            has_scores=entry.has_scores,
            scores_only=entry.scores_only,
            image_size=entry.image_size,
        )


def load_source_model(
    config: str | Path | ModelConfig,
    checkpoint: str | Path | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
    scores_only: bool = False,
    features: Features = None,
    weights_key: str | None = None,
    origin: str | None = None,
    trust_code: bool = False,
) -> SourceModel:
    """Load any mmseg EncoderDecoder, or any network that was trained here, as a source model in evaluation mode.

    Args:
        config: An mmseg config file (a .py file is run), its ``model`` dict, or the ``source.json`` of a source that
            was trained here (runs no code; its weights lie beside it).
        checkpoint: Its weights. None means those beside ``source.json``, or random weights for any other config.
        device, seed: A torch device, such as "cuda:1"; the seed of random weights.
        scores_only, features: Use only the network's output and no features; what counts as features.
        weights_key: Dotted path of the weights in the checkpoint, where several fit.
        origin: Where the config comes from, for messages; by default its path.
        trust_code: Whether the code of a network that was built by a factory may run.

    Raises:
        ConfigError: The config is unreadable, or the network's features cannot be read.
        CheckpointError: The checkpoint is unsafe, or does not fit the config (for example, the class count differs).
    """
    (model, weights), origin = resolve(config, checkpoint), origin or origin_of(config)
    refuse_large_numbers(model, origin)
    files = [] if weights is None else [weights]
    with bounded_memory(origin, files):
        network, normalization, classifier = (
            _build_trained(model, weights, origin, weights_key, trust_code=trust_code)
            if is_of_other_kind(model)
            else _build_segmentor(model, weights, origin, weights_key, seed)
        )
    sizes = _stored_sizes(model, origin)
    with bounded_memory(origin, _on_cpu(files, device)):
        return read_network(
            to_device(network, device),
            check_usable(normalization, origin),
            features=features,
            classifier=None if scores_only else classifier,
            scores_only=scores_only,
            n_classes=n_classes_of(model),
            image_size=None if sizes is None else sizes.fixed,
            sizes=sizes if features in (None, "last") else None,
        )


def _on_cpu(files: Sequence[Path], device: str) -> Sequence[Path]:
    """Return the weights that bound the memory of a network while it runs: drivers of GPUs map memory of their own."""
    return files if device == "cpu" else ()


def _stored_sizes(model: ModelConfig, origin: str) -> InputSizes | None:
    """Return the sizes with which a network was trained here; None for an mmseg config, or if it does not say.

    Found anew, they would be those of the head, which may take more sizes than the maps below it. Other features than
    those of the last layer may need sizes of their own.
    """
    stored = read_trained(model, origin).sizes if is_of_other_kind(model) else None
    return None if stored is None else InputSizes(**stored.model_dump())


def _build_trained(
    model: ModelConfig, weights: Path | None, origin: str, weights_key: str | None, *, trust_code: bool
) -> tuple[nn.Module, Normalization, str | None]:
    network, normalization, classifier = build_trained(model, origin, trust_code=trust_code)
    if weights is not None:
        load_files(network, weights, weights_key=weights_key)
    return network, normalization, classifier


def _build_segmentor(
    model: ModelConfig, weights: Path | None, origin: str, weights_key: str | None, seed: int
) -> tuple[nn.Module, Normalization, str | None]:
    network = build_network(model, seed=seed, origin=origin)
    if weights is not None:
        load_weights(network, weights, weights_key)
    return network, normalization_of(model, origin), classifier_name(network)


def as_source_model(network: nn.Module, model: ModelConfig) -> SourceModel:
    """Wrap a network that was built from `model`, an mmseg config, as a source; switches it to evaluation mode.

    Raises:
        ConfigError: Its features cannot be read, or the config's normalization does not have three channels.
    """
    classifier = classifier_name(network)
    return read_network(network, normalization_of(model), classifier=classifier, n_classes=n_classes_of(model))


def trained_spec(entry: SourceEntry, source: SourceModel, n_classes: int, normalization: Normalization) -> ModelConfig:
    """Describe a network with a new last layer as plain data, from which `build_trained` builds it again.

    Args:
        entry: The entry that the network comes from.
        source: The source with its new last layer, as `with_new_head` returns it.
        n_classes: Number of classes of the new layer.
        normalization: Of the images that it was trained on.
    """
    network = source.network
    layers = [list(layer) for layer in network.layers] if isinstance(network, LinearHead) else []
    return {
        KIND: entry.kind,
        "architecture": entry.architecture(),
        "n_classes": n_classes,
        "mean": list(normalization.mean),
        "std": list(normalization.std),
        "channel_order": normalization.channel_order,
        "classifier": source.classifier_name,
        "linear_head": layers,
        "sizes": asdict(source.sizes),
    }


def build_trained(
    spec: Mapping[str, Any], origin: str, *, trust_code: bool = False
) -> tuple[nn.Module, Normalization, str | None]:
    """Build the network that `trained_spec` describes, with random weights.

    Args:
        spec: The description.
        origin: Where it comes from, for messages.
        trust_code: Whether the code of a network that was built by a factory may run.

    Returns:
        The network, the normalization of its images, and the name of its classifier.

    Raises:
        ConfigError: The description is damaged, the network cannot be built, or its code may not run.
    """
    described = read_trained(spec, origin)
    entry = adapters.ADAPTERS.get(described.kind)
    if entry is None or "build" not in vars(entry):
        raise ConfigError(f"{origin}: field model.kind: {described.kind!r:.80}: no kind of network; train it again")
    for code in [] if trust_code else code_of(spec):
        raise ConfigError(f"{origin}: {code} is Python code and is not run; pass trust_code=True if you trust it")
    n_classes = described.n_classes
    try:
        network = entry.build(described.architecture, origin)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # it is not what the entry of its kind wrote
        raise ConfigError(
            f"{origin}: field model.architecture is damaged ({reason_of(error)}); train it again"
        ) from error
    layers = [MapLayer(*layer) for layer in described.linear_head]
    normalization = Normalization(described.mean, described.std, described.channel_order)
    if layers and not isinstance(network, LinearHead):  # one that had a linear head got a new one in its place
        return LinearHead(network, layers, n_classes), normalization, described.classifier
    replace_last_layer(network, described.classifier, n_classes)
    return network, normalization, described.classifier
