"""mmseg networks: building one from its config, loading weights into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from seg_transfer.errors import CheckpointError, ConfigError, reason_of
from seg_transfer.models.compat import quiet
from seg_transfer.models.configs import ModelConfig
from seg_transfer.models.registered import only_registered, registered
from seg_transfer.models.sealed import sealed

_CLASSIFIER = "conv_seg"


def build_network(model: ModelConfig, *, seed: int, origin: str = "model config") -> nn.Module:
    """Build an mmseg segmentor with randomly initialized weights that depend on `seed` alone.

    The config may be untrusted: it can only name registered classes, and cannot read files, download or run anything.

    Args:
        model: The ``model`` entry of an mmseg config.
        seed: Seed of the weights.
        origin: Where the config comes from, for messages.

    Raises:
        ConfigError: It cannot be built, or names anything that is not registered; the message begins with `origin`.
    """
    named = registered(model, origin)
    from mmengine import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    with quiet(), only_registered(), sealed(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            with DefaultScope.overwrite_default_scope("mmseg"):
                network: nn.Module = MODELS.build(ConfigDict(named))
                initialize: Callable[[], None] = getattr(network, "init_weights")  # noqa: B009  mmseg types are unknown
                initialize()
        except Exception as error:  # the registry raises whatever a constructor raises
            raise ConfigError(
                f"{origin}: field model: {named.get('type')} cannot be built ({reason_of(error)}); correct it, or "
                "provide the network by a factory"
            ) from error
    return network


def to_device(network: nn.Module, device: str) -> nn.Module:
    """Move a network to a device, in the memory layout that makes convolutions fastest."""
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def classifier_name(network: nn.Module) -> str | None:
    """Return the dotted name of the last main head's 1x1 classifier layer; None if it has none of that name."""
    head = network.get_submodule("decode_head")
    prefix = f"decode_head.{len(head) - 1}" if isinstance(head, nn.ModuleList) else "decode_head"
    name = f"{prefix}.{_CLASSIFIER}"
    return name if any(module == name for module, _ in network.named_modules()) else None


def load_weights(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all weights of a network; auxiliary heads of the checkpoint that the network lacks are ignored.

    Args:
        network: An mmseg segmentor, changed in place.
        state: Parameter name -> tensor.
        origin: Where the weights come from, for messages.

    Raises:
        CheckpointError: A parameter is missing, unknown, or has the wrong shape; the message names the first one.
    """
    _load_selected(network, state, origin, lambda name: not name.startswith("auxiliary_head."))


def load_weights_except_classifiers(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load all weights except those of the classifier layers, which keep their new initialization for new classes.

    Arguments and errors are those of `load_weights`; the sizes of the classifiers may differ.
    """
    _load_selected(network, state, origin, lambda name: not _is_classifier(name))


def _load_selected(
    network: nn.Module, state: Mapping[str, Tensor], origin: str, is_selected: Callable[[str], bool]
) -> None:
    """Load the selected parameters; network and state must have the same ones."""
    selected = {name: tensor for name, tensor in state.items() if is_selected(name)}
    _check_fit(selected, {name: tensor for name, tensor in network.state_dict().items() if is_selected(name)}, origin)
    network.load_state_dict(selected, strict=False)


def load_backbone(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load backbone weights from an ImageNet checkpoint, with or without the prefix ``backbone.``.

    Arguments and errors are those of `load_weights`; parameters that the backbone lacks, such as the head's, are
    ignored.
    """
    prefix = "backbone."
    backbone = network.get_submodule("backbone")
    expected = backbone.state_dict()
    plain = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    kept = {name: tensor for name, tensor in plain.items() if name in expected}
    _check_fit(kept, expected, origin)
    backbone.load_state_dict(kept)


def _is_classifier(name: str) -> bool:
    return f".{_CLASSIFIER}." in name


def _check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: str) -> None:
    for name, tensor in expected.items():
        if name not in state:
            raise CheckpointError(f"{origin}: lacks parameter {name}; name the config that the checkpoint belongs to")
        if state[name].shape != tensor.shape:
            shape, expected_shape = tuple(state[name].shape), tuple(tensor.shape)
            if _is_classifier(name):
                raise CheckpointError(
                    f"{origin}: classifier has {shape[0]} classes, but its config has {expected_shape[0]}; "
                    "correct num_classes or name the right checkpoint"
                )
            raise CheckpointError(
                f"{origin}: {name} has shape {shape}, its config needs {expected_shape}; name its own config"
            )
    unknown = sorted(state.keys() - expected.keys())
    if unknown:
        raise CheckpointError(
            f"{origin}: has parameter {unknown[0]} that its config does not have; name its own config"
        )
