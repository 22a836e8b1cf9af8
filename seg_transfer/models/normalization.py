"""How networks take images: mean, std and channel order; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from seg_transfer.errors import ConfigError
from seg_transfer.models.preprocessing import PREPROCESSOR

RGB = tuple[float, float, float]


class Normalization(NamedTuple):
    """How a network takes images: `mean` and `std` (RGB, fractions of 255) and `channel_order`, "rgb" or "bgr"."""

    mean: RGB
    std: RGB
    channel_order: str = "rgb"


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""With which most networks were trained on ImageNet."""


def check_usable(normalization: Normalization, origin: str) -> Normalization:
    """Return a normalization; raises ConfigError where it is not finite, or divides by nothing."""
    mean, std, _ = normalization
    if all(map(isfinite, (*mean, *std))) and min(std) > 0:
        return normalization
    raise ConfigError(
        f"{origin}: mean {list(mean)} and std {list(std)} of its description do not normalize images; give the source "
        "mean and std (RGB, fractions of 255)"
    )


def normalization_of(model: Mapping[str, Any], origin: str = "model config") -> Normalization:
    """Return the normalization that a model config states.

    mmseg reads images as BGR, and ``bgr_to_rgb`` reverses the channels; its mean and std are in the resulting order.

    Args:
        model: The ``model`` entry of an mmseg config.
        origin: Where the config comes from, for messages.

    Raises:
        ConfigError: It states none, or not one for three channels.
    """
    preprocessor = model.get(PREPROCESSOR)
    stated = preprocessor if isinstance(preprocessor, Mapping) else {}
    if stated.get("mean") is None or stated.get("std") is None:
        raise ConfigError(
            f"{origin}: states no mean and std of images, in data_preprocessor or a single way in its pipelines; give "
            "the source mean and std (RGB, fractions of 255)"
        )
    mean, std = (_fractions(stated[field], field, origin) for field in ("mean", "std"))
    if not all(value > 0 for value in std):
        raise ConfigError(f"{origin}: field {PREPROCESSOR}.std: {stated['std']}: must be positive; correct it")
    if stated.get("bgr_to_rgb", False):
        return Normalization(mean, std, "rgb")
    return Normalization(mean[::-1], std[::-1], "bgr")


def _fractions(value: Any, field: str, origin: str) -> RGB:
    """Return the three numbers in a field of the data preprocessor, values from 0 to 255, as fractions of 255."""
    where = f"{origin}: field {PREPROCESSOR}.{field}"
    numbers = value if isinstance(value, list | tuple) else [value]
    if len(numbers) != 3:
        raise ConfigError(
            f"{origin}: field {PREPROCESSOR}: mean and std must have three channels, {field} has {len(numbers)}; "
            "correct them"
        )
    try:
        first, second, third = (float(number) / 255 for number in numbers)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {value!r:.80}: must be numbers; correct it") from error
    if not all(map(isfinite, (first, second, third))):
        raise ConfigError(f"{where}: {value!r:.80}: must be finite numbers; correct it")
    return first, second, third


def check_normalization(name: str, mean: RGB | None, std: RGB | None, *, input_scale: int = 1) -> None:
    """Check that mean and std fit the unit of the pixel values.

    Args:
        name: Name of the source, for the message.
        mean, std: RGB, or None where they are not given.
        input_scale: What a pixel value of 255 becomes before mean and std are applied, 1 or 255.

    Raises:
        ValueError: They do not fit; pydantic reports it as a validation error.
    """
    # Subtracting a mean given in fractions from values up to 255 would leave the images almost unchanged.
    if mean and not (
        all(0 <= value <= input_scale for value in mean) and (input_scale == 1 or max(mean) == 0 or max(mean) > 1)
    ):
        raise ValueError(
            f"source {name!r}: field mean: {list(mean)}: with input_scale {input_scale} the values must be "
            f"from 0 to {input_scale}; correct one of them"
        )
    if std and not all(value > 0 for value in std):
        raise ValueError(f"source {name!r}: field std: {list(std)}: must be positive; correct it")
