"""Building networks of timm: backbones that return maps, and backbones with a linear head on their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.adapters.timm import FOREIGN_ARGUMENTS
from seg_transfer.models.compat import import_after_torchvision, quiet
from seg_transfer.models.heads import with_linear_head
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.sealed import sealed

_MULTIPLE = 32
_BRANCHES = (1, 2, 3, 4)
_N_BLOCKS = 4
# Transformers take images of any size with the first option, and windowed ones with the second; others know neither.
_SIZE_OPTIONS: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})

IGNORED_WEIGHTS = (
    *("head.*", "head_*", "heads.*", "fc.*", "classifier.*", "last_linear.*", "pre_logits.*", "aux_head.*"),
    *("incre_modules.*", "downsamp_modules.*", "final_layer.*"),  # of HRNet's classification head
    *("*.attn_mask", "*.relative_position_index"),  # computed anew
)
"""Patterns of names of weights that a network without its classification head does not have."""


class HRNetWithLinearHead(nn.Module):
    """The branches of a timm HRNet, enlarged to the size of the first and concatenated, and a 1x1 classifier.

    timm's branches fit together only for sides that are multiples of 32. Images of other sizes are resized bilinearly
    to the nearest such size, which changes a side by at most 16 pixels.

    Its state dict has ``backbone.*``, the names of timm, and ``classifier.weight`` (C, D, 1, 1), ``classifier.bias``.
    """

    resizes_images = True

    def __init__(self, backbone: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(n_features, n_classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores (B, C, H / 4, W / 4) of normalized images (B, 3, H, W)."""
        fitting = [max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE) for side in images.shape[2:]]
        if fitting != list(images.shape[2:]):
            images = F.interpolate(images, size=fitting, mode="bilinear", align_corners=False, antialias=True)
        branches = self.backbone(images)
        size = branches[0].shape[2:]
        resized = [F.interpolate(branch, size=size, mode="bilinear", align_corners=False) for branch in branches[1:]]
        scores: Tensor = self.classifier(torch.cat([branches[0], *resized], dim=1))
        return scores


def build_timm(architecture: Mapping[str, Any], origin: str) -> nn.Module:
    """Build a network of timm with random weights. Downloads nothing, whatever the architecture contains.

    Args:
        architecture: ``model``, its name in timm; ``arguments`` and ``pretrained_cfg`` of `timm.create_model`, which
            may be missing; with ``n_classes``, the network ends in a linear head.
        origin: Where it comes from, for messages.

    Returns:
        A network that returns maps, finest first (see `_map_indices`), or class scores if it has a head.

    Raises:
        ConfigError: timm is missing, has no such network, or cannot build it.
    """
    timm = _import_timm(origin)
    model = _known_name(timm, architecture.get("model"), origin)
    n_classes = architecture.get("n_classes")
    try:
        with quiet(), sealed(), torch.random.fork_rng():
            if model.startswith("hrnet_"):
                backbone: Any = _hrnet(timm, model, architecture)
                return backbone if n_classes is None else _hrnet_with_head(backbone, n_classes)
            backbone = _backbone(timm, model, architecture)
    except Exception as error:  # timm raises whatever a constructor raises
        raise _unbuilt(origin, model, error) from error
    return backbone if n_classes is None else with_linear_head(backbone, n_classes)


def normalization_of_timm(architecture: Mapping[str, Any], origin: str) -> Normalization:
    """Return mean and std of the images that a network of timm was trained on; arguments are those of `build_timm`.

    Raises:
        ConfigError: timm is missing or has no such network, or what is stated is damaged.
    """
    stated = _pretrained_config(architecture, origin)
    try:
        (red, green, blue), (red_std, green_std, blue_std) = (map(float, stated[field]) for field in ("mean", "std"))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{origin}: field pretrained_cfg: mean {stated['mean']!r:.80} and std {stated['std']!r:.80} must be three "
            "numbers each; give the source's mean and std (RGB, fractions of 255)"
        ) from error
    return Normalization((red, green, blue), (red_std, green_std, blue_std))


def image_size_of_timm(architecture: Mapping[str, Any], origin: str) -> tuple[int, int] | None:
    """Return height and width of the images that a network of timm was trained on; arguments as for `build_timm`."""
    size = _pretrained_config(architecture, origin)["input_size"]
    is_size = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(side, int) and side > 0 for side in size)
    return (size[1], size[2]) if is_size else None


def _pretrained_config(architecture: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return what timm, or else the architecture itself, states of the images that a network was trained on."""
    timm = _import_timm(origin)
    model = _known_name(timm, architecture.get("model"), origin)
    try:
        stated = timm.models.get_pretrained_cfg(model) or timm.models.PretrainedCfg()
    except RuntimeError as error:  # a network without weights of this tag
        raise _unbuilt(origin, model, error) from error
    own = architecture.get("pretrained_cfg")
    return {**stated.to_dict(), **(own if isinstance(own, Mapping) else {})}


def _unbuilt(origin: str, model: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{origin}: timm {model}: cannot be built ({reason_of(error)}); correct the entry, or upgrade timm"
    )


def _import_timm(origin: str) -> Any:
    advice = "pip install 'seg_transfer[timm]', and a torchvision that fits the installed torch"
    return import_after_torchvision("timm", origin, advice)


def _known_name(timm: Any, model: object, origin: str) -> str:
    name = str(model)
    if ":" not in name and timm.is_model(name):
        return name
    near = get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
    hint = f"similar ones are {', '.join(near)}" if near else "timm.list_models() lists all"
    raise ConfigError(f"{origin}: field timm: {name!r:.80}: timm {timm.__version__} has no such network; {hint}")


def _options(architecture: Mapping[str, Any]) -> dict[str, Any]:
    arguments = architecture.get("arguments") or {}
    kept = {name: value for name, value in arguments.items() if name not in FOREIGN_ARGUMENTS}
    # An empty configuration would count as given.
    return {"pretrained_cfg": architecture.get("pretrained_cfg") or None, **kept}


def _hrnet(timm: Any, model: str, architecture: Mapping[str, Any]) -> nn.Module:
    """Build the four branches; by default, timm returns them widened for classification, and the stem before them."""
    network: nn.Module = timm.create_model(
        model,
        pretrained=False,
        features_only=True,
        feature_location="",
        out_indices=_BRANCHES,
        **_options(architecture),
    )
    return network


def _hrnet_with_head(backbone: Any, n_classes: int) -> nn.Module:
    return HRNetWithLinearHead(backbone, sum(backbone.feature_info.channels()), n_classes)


def _backbone(timm: Any, model: str, architecture: Mapping[str, Any]) -> nn.Module:
    """Build a network whose forward returns maps; its weights keep their names."""
    network = _created(timm, model, _options(architecture))
    network.map_indices = _map_indices([int(stage["reduction"]) for stage in network.feature_info])
    # Of the intermediate maps of a plain transformer, all pass through its last normalization.
    network.maps_are_normalized = len({stage["reduction"] for stage in network.feature_info}) == 1
    # Not a method of this one object, which would refer to it: memory is then freed late.
    network.__class__ = type(type(network).__name__, (_ReturnsMaps, type(network)), {})
    built: nn.Module = network
    return built


def _created(timm: Any, model: str, options: Mapping[str, Any]) -> Any:
    for size_options in _SIZE_OPTIONS:
        try:
            return timm.create_model(model, pretrained=False, **{"num_classes": 0, **size_options, **options})
        except TypeError as error:
            if not any(name in str(error) for name in size_options):
                raise
    raise AssertionError("the last options are none")


class _ReturnsMaps:
    """The part of a network's class by which it returns maps instead of scores."""

    def forward(self: Any, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps (B, C, h, w) of normalized images (B, 3, H, W)."""
        maps = self.forward_intermediates(
            images,
            indices=self.map_indices,
            norm=self.maps_are_normalized,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return tuple(maps)


def _map_indices(strides: list[int]) -> list[int]:
    """Choose the last map of every stride; of a network of one stride, four evenly spaced blocks.

    Args:
        strides: Stride of every map that the network can return, in order.

    Example:
        >>> _map_indices([4, 8, 16, 16, 32]), _map_indices([14] * 12)
        ([0, 1, 3, 4], [2, 5, 8, 11])
    """
    n = len(strides)
    if len(set(strides)) > 1:
        return sorted({stride: index for index, stride in enumerate(strides)}.values())
    return sorted({-(-n * (place + 1) // _N_BLOCKS) - 1 for place in range(_N_BLOCKS)})
