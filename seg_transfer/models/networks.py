"""mmseg networks: building one from its config, loading weights into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.checkpoints import load_files, shapes_of, weights_for
from seg_transfer.models.compat import quiet
from seg_transfer.models.configs import IGNORED_WEIGHTS, ModelConfig, n_classes_of, with_classes
from seg_transfer.models.registered import only_registered, registered
from seg_transfer.models.sealed import sealed
from seg_transfer.models.tuples import with_tuples

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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(model, origin, initialize=True)


def _build(model: ModelConfig, origin: str, *, initialize: bool) -> nn.Module:
    named = registered(model, origin)
    from mmengine import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    with quiet(), only_registered(), sealed(), DefaultScope.overwrite_default_scope("mmseg"):
        try:
            network: nn.Module = MODELS.build(ConfigDict(with_tuples(named, MODELS.get)))
            if initialize:
                network.init_weights()  # type: ignore[operator]  # mmseg types are unknown
        except Exception as error:  # the registry raises whatever a constructor raises
            raise ConfigError(
                f"{origin}: field model: {named.get('type')} cannot be built ({reason_of(error)}); correct it, or "
                "provide the network by a factory"
            ) from error
    return network


def class_dependent(model: ModelConfig, origin: str = "model config") -> frozenset[str]:
    """Return the names of the parameters and buffers whose shapes depend on the number of classes.

    They are found by building the network, without memory for its weights, with two numbers of classes.

    Args:
        model: The ``model`` entry of an mmseg config.
        origin: Where the config comes from, for messages.

    Raises:
        ConfigError: As for `build_network`.
    """
    n_classes = n_classes_of(model)
    these, others = (_shapes(with_classes(model, count), origin) for count in (n_classes, n_classes + 1))
    return frozenset(name for name in these.keys() | others.keys() if these.get(name) != others.get(name))


def _shapes(model: ModelConfig, origin: str) -> dict[str, torch.Size]:
    with torch.device("meta"), _NumbersOnCpu():
        network = _build(model, origin, initialize=False)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


class _NumbersOnCpu(TorchFunctionMode):
    """Keeps on the CPU what networks compute numbers with when they are built: the rates of stochastic depth."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        on_cpu = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **on_cpu})


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
    """Load all weights of a network; those of heads that are not read, such as auxiliary ones, may be additional.

    Args:
        network: An mmseg segmentor, changed in place.
        file: The checkpoint.
        weights_key: Dotted path of the weights in the checkpoint, where several fit.

    Raises:
        CheckpointError: The checkpoint is missing or damaged, or does not hold exactly the network's weights.
    """
    load_files(network, file, ignored=IGNORED_WEIGHTS, weights_key=weights_key)


def load_weights_except_classifiers(
    network: nn.Module, file: Path, model: ModelConfig, weights_key: str | None = None
) -> None:
    """Load all weights except those that depend on the number of classes, which keep their new initialization.

    Args:
        network: An mmseg segmentor, changed in place.
        file: The checkpoint, of a network with any number of classes.
        model: The config that the network was built from.
        weights_key: Dotted path of the weights in the checkpoint, where several fit.

    Raises:
        CheckpointError: As for `load_weights`.
    """
    left_out = class_dependent(model)
    expected = {name: shape for name, shape in shapes_of(network).items() if name not in left_out}
    state = weights_for(expected, file, ignored=(*IGNORED_WEIGHTS, *left_out), weights_key=weights_key)
    network.load_state_dict(state, strict=False)


def classifier_parameters(network: nn.Module) -> list[str]:
    """Return the names of the parameters of all classifier layers, which are new where the classes are."""
    return [name for name, _ in network.named_parameters() if f".{_CLASSIFIER}." in name]


def load_backbone(network: nn.Module, file: Path) -> None:
    """Load backbone weights from an ImageNet checkpoint, with or without the prefix ``backbone.``.

    Arguments and errors are those of `load_weights`; parameters that the backbone lacks, such as the head's, are
    ignored.
    """
    load_files(network.get_submodule("backbone"), file, ignored=("*",))
