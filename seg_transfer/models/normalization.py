"""How networks take images: mean, std and channel order; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from seg_transfer.errors import ConfigError

RGB = tuple[float, float, float]


class Normalization(NamedTuple):
    """How a network takes images: `mean` and `std` (RGB, fractions of 255) and `channel_order`, "rgb" or "bgr"."""

    mean: RGB
    std: RGB
    channel_order: str = "rgb"


def normalization_of(model: Mapping[str, Any]) -> Normalization:
    """Return mean and std in RGB order as fractions of 255, and the channel order that the network takes.

    mmseg reads images as BGR, and `bgr_to_rgb` reverses the channels; its mean and std are in the resulting order.

    Raises:
        ConfigError: They do not have three channels.
    """
    preprocessor = model.get("data_preprocessor") or {}
    mean, std = (
        [float(value) / 255 for value in preprocessor.get(field) or (default,) * 3]
        for field, default in (("mean", 0.0), ("std", 1.0))
    )
    if not len(mean) == len(std) == 3:
        raise ConfigError("model config: field data_preprocessor: mean and std must have three channels; correct them")
    if preprocessor.get("bgr_to_rgb", False):
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), "rgb")
    return Normalization((mean[2], mean[1], mean[0]), (std[2], std[1], std[0]), "bgr")
