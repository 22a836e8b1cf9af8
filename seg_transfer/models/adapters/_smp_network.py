"""Building networks of segmentation_models_pytorch."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.compat import import_after_torchvision, quiet
from seg_transfer.models.sealed import sealed


def build_smp(architecture: Mapping[str, Any], origin: str) -> nn.Module:
    """Build a network of segmentation_models_pytorch with random weights. Downloads nothing.

    Args:
        architecture: ``model``, the name of its class, and ``arguments`` of that.
        origin: Where it comes from, for messages.

    Raises:
        ConfigError: The library is missing, has no such network, or cannot build it.
    """
    classes = _import_smp(origin).MODEL_ARCHITECTURES_MAPPING
    model, arguments = str(architecture.get("model")), architecture.get("arguments")
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{origin}: arguments of smp {model:.80} are no mapping; copy its description again")
    if model.lower() not in classes:
        near = get_close_matches(model.lower(), classes, n=3) or classes
        names = ", ".join(classes[name].__name__ for name in near)
        raise ConfigError(f"{origin}: smp has no architecture {model!r:.80}; name one of its own, such as {names}")
    try:
        with quiet(), sealed(), torch.random.fork_rng():
            network: nn.Module = classes[model.lower()](**{**arguments, "encoder_weights": None})
    except Exception as error:  # whatever a constructor raises
        raise ConfigError(
            f"{origin}: smp {model:.80}: cannot be built ({reason_of(error)}); correct its arguments"
        ) from error
    return network


def _import_smp(origin: str) -> Any:
    advice = "pip install 'seg_transfer[smp]', and a torchvision that fits the installed torch"
    return import_after_torchvision("segmentation_models_pytorch", origin, advice)
