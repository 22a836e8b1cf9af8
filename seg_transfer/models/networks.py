"""mmseg networks: building one from its config, loading weights into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.checkpoints import load_files, shapes_of, weights_for
from seg_transfer.models.compat import quiet
from seg_transfer.models.configs import ModelConfig
from seg_transfer.models.registered import only_registered, registered
from seg_transfer.models.sealed import sealed

_CLASSIFIER = "conv_seg"
_AUXILIARY = ("auxiliary_head.*",)


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


def load_weights(network: nn.Module, file: Path, weights_key: str | None = None) -> None:
    """Load all weights of a network; auxiliary heads, which only training uses, may be missing or additional.

    Args:
        network: An mmseg segmentor, changed in place.
        file: The checkpoint.
        weights_key: Dotted path of the weights in the checkpoint, where several fit.

    Raises:
        CheckpointError: The checkpoint is missing or damaged, or does not hold exactly the network's weights.
    """
    load_files(network, file, optional=_AUXILIARY, ignored=_AUXILIARY, weights_key=weights_key)


def load_weights_except_classifiers(network: nn.Module, file: Path, weights_key: str | None = None) -> None:
    """Load all weights except those of the classifier layers, which keep their new initialization for new classes.

    Arguments and errors are those of `load_weights`; the sizes of the classifiers may differ.
    """
    expected = {name: shape for name, shape in shapes_of(network).items() if f".{_CLASSIFIER}." not in name}
    state = weights_for(expected, file, ignored=(f"*.{_CLASSIFIER}.*",), weights_key=weights_key)
    network.load_state_dict(state, strict=False)


def load_backbone(network: nn.Module, file: Path) -> None:
    """Load backbone weights from an ImageNet checkpoint, with or without the prefix ``backbone.``.

    Arguments and errors are those of `load_weights`; parameters that the backbone lacks, such as the head's, are
    ignored.
    """
    load_files(network.get_submodule("backbone"), file, ignored=("*",))
