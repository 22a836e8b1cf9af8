"""Building networks of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.compat import import_after_torchvision, quiet
from seg_transfer.models.downloads import mirrored
from seg_transfer.models.heads import with_linear_head
from seg_transfer.models.sealed import sealed

_HEADS = ("classifier", "fc", "head", "heads")
# The published weights of these networks expect that they renormalize images that were normalized for ImageNet.
_RENORMALIZING = ("googlenet", "inception_v3")

MIRROR = "SEG_TRANSFER_PYTORCH_URL"
"""Environment variable: the address that takes the place of that of PyTorch's server."""
_SERVER = "https://download.pytorch.org"

IGNORED_WEIGHTS = ("aux_classifier.*", *(f"{head}.*" for head in _HEADS))
"""Patterns of names of weights that a network without its classification or auxiliary head does not have."""


def build_torchvision(architecture: Mapping[str, Any], origin: str) -> nn.Module:
    """Build a network of torchvision with random weights. Downloads nothing.

    Args:
        architecture: ``model``, its name in torchvision, and ``n_classes`` for a network that gives class scores.
        origin: Where it comes from, for messages.

    Returns:
        A segmentation model without auxiliary head, a classification model without its head, or the latter with a
        linear head on its maps.

    Raises:
        ConfigError: torchvision is missing, has no such network, or cannot build it.
    """
    torchvision = _import_torchvision(origin)
    model, n_classes = str(architecture.get("model")), architecture.get("n_classes")
    _check_known(torchvision, model, origin)
    is_for_pixels = model in torchvision.models.list_models(module=torchvision.models.segmentation)
    options: dict[str, Any] = {}
    if is_for_pixels:
        options = {"weights_backbone": None, "num_classes": n_classes}
    elif model in _RENORMALIZING:
        options = {"transform_input": True, "init_weights": False}
    try:
        with quiet(), sealed(), torch.random.fork_rng():
            network: nn.Module = torchvision.models.get_model(model, weights=None, **options)
    except Exception as error:  # whatever a constructor raises
        raise ConfigError(f"{origin}: torchvision {model}: cannot be built ({reason_of(error)}); correct it") from error
    if is_for_pixels:
        return network
    _remove_head(network)
    return network if n_classes is None else with_linear_head(network, n_classes)


def address_of_weights(model: str, weights: str, origin: str) -> str:
    """Return the address of weights that torchvision publishes.

    Args:
        model: Name of the network in torchvision.
        weights: Name of the weights, such as ``DEFAULT`` or ``IMAGENET1K_V2``.
        origin: Where it comes from, for messages.

    Raises:
        ConfigError: torchvision is missing, or publishes no such weights.
    """
    torchvision = _import_torchvision(origin)
    _check_known(torchvision, model, origin)
    known = torchvision.models.get_model_weights(model).__members__
    if weights not in known:
        names = f"; choose {', '.join(known)}, or name a file" if known else "; name a file"
        raise ConfigError(f"{origin}: field weights: {weights!r}: torchvision publishes no such weights{names}")
    return mirrored(known[weights].url, _SERVER, MIRROR)


def _check_known(torchvision: Any, model: str, origin: str) -> None:
    for_pixels = torchvision.models.list_models(module=torchvision.models.segmentation)
    for_images = torchvision.models.list_models(module=torchvision.models)
    if model not in [*for_pixels, *for_images]:
        near = get_close_matches(model, [*for_pixels, *for_images], n=3)
        hint = f"similar ones are {', '.join(near)}" if near else "torchvision.models.list_models() lists all"
        raise ConfigError(
            f"{origin}: field torchvision: {model!r:.80}: torchvision {torchvision.__version__} has no such network "
            f"for segmentation or classification; {hint}"
        )


def _import_torchvision(origin: str) -> Any:
    advice = "pip install 'seg_transfer[torchvision]', in the version that fits the installed torch"
    return import_after_torchvision("torchvision", origin, advice)


def _remove_head(network: nn.Module) -> None:
    """Replace what follows the maps, so that neither the scores of image classes nor the last map are an output map."""
    for name in _HEADS:
        if hasattr(network, name):
            setattr(network, name, nn.Flatten())
