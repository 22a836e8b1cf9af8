"""Descriptions of networks of any kind that were trained here, as they stand in source cards: untrusted plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from seg_transfer.data.fields import Integer, Number
from seg_transfer.data.validation import one_line
from seg_transfer.errors import ConfigError

KIND = "kind"
"""The field by which the description of a trained network differs from an mmseg config."""
_FACTORY = "factory"
_MOST_CLASSES = 1 << 16
# Layers of networks have up to some thousand channels; far more would be memory that a description asks for.
_MOST_CHANNELS, _MOST_LAYERS = 1 << 16, 1000

_Name = Annotated[str, Strict()]
_Mean = Annotated[Number, Field(ge=-1e6, le=1e6)]
_Deviation = Annotated[Number, Field(ge=1e-6, le=1e6)]
_MapLayer = tuple[
    _Name,
    Annotated[Integer, Field(ge=-1, le=_MOST_LAYERS)],
    Annotated[Integer, Field(ge=1, le=_MOST_CHANNELS)],
    Annotated[Number, Field(ge=0.25, le=1024)],
    Literal["channels_first", "channels_last", "tokens"],
    Annotated[Integer, Field(ge=0, le=_MOST_CHANNELS)],
]
"""The fields of `seg_transfer.models.watching.MapLayer`."""

_Side = Annotated[Integer, Field(ge=1, le=1 << 14)]


class TrainedSizes(BaseModel):
    """The fields of `seg_transfer.models.sizes.InputSizes`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    multiple: _Side = 1
    square: Annotated[bool, Strict()] = False
    fixed: tuple[_Side, _Side] | None = None
    smallest: _Side = 1


class TrainedNetwork(BaseModel):
    """What `seg_transfer.models.loading.trained_spec` writes.

    Attributes:
        kind: Kind of the model.
        architecture: What its entry says of how the network is built.
        n_classes: Number of classes of its last layer.
        mean, std: RGB, fractions of 255.
        channel_order: Of the images that it takes.
        classifier: Name of its last layer; None where the network itself replaces its classes.
        linear_head: The maps that a linear head lies on, each as a `MapLayer`; () without such a head.
        sizes: The sizes of images with which it was trained; None if an earlier version wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: _Name
    architecture: dict[str, Any]
    n_classes: Annotated[Integer, Field(ge=1, le=_MOST_CLASSES)]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]
    channel_order: Literal["rgb", "bgr"]
    classifier: _Name | None
    linear_head: Annotated[tuple[_MapLayer, ...], Field(max_length=_MOST_LAYERS)]
    sizes: TrainedSizes | None = None


def is_of_other_kind(model: Mapping[str, Any]) -> bool:
    """Return whether a model is no mmseg config, but describes a network of any kind that was trained here."""
    return KIND in model and "architecture" in model


def read_trained(model: Mapping[str, Any], origin: str) -> TrainedNetwork:
    """Check the description of a trained network.

    Args:
        model: The description.
        origin: Where it comes from, for messages.

    Raises:
        ConfigError: It is damaged.
    """
    try:
        return TrainedNetwork.model_validate(model)
    except ValidationError as error:
        raise ConfigError(f"{origin}: field model.{one_line(error, dict(model))}; train it again") from error


def code_of(model: Mapping[str, Any]) -> list[str]:
    """List the code from outside this package that building a trained network runs, as messages name it."""
    if model.get(KIND) != _FACTORY:
        return []
    architecture = model.get("architecture")
    described = architecture if isinstance(architecture, Mapping) else {}
    return [f"factory {described.get('factory')} (looked for in {described.get('folder')})"]
