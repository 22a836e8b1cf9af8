"""Types of fields of a source's entry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat

_LayerName = Annotated[str, Field(min_length=1)]


def _some_features(features: object) -> object:
    if isinstance(features, str) and features not in ("last", "stages"):
        raise ValueError(f"must be last, stages or a list of layer names, such as [{features}]")
    if isinstance(features, list) and (not features or len(set(map(str, features))) < len(features)):
        raise ValueError("must name layers, each once; correct the list")
    return features


def _no_truth_value(rate: object) -> object:
    if isinstance(rate, bool):
        raise ValueError("must be a number, such as 0.01; correct it")
    return rate


FeatureChoice = Annotated[Literal["last", "stages"] | tuple[_LayerName, ...], BeforeValidator(_some_features)]
LearningRate = Annotated[PositiveFloat, Field(allow_inf_nan=False), BeforeValidator(_no_truth_value)]
