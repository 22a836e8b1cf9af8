"""The normalization of images in an mmseg config, wherever the versions of mmsegmentation keep it.

Version 1 keeps it in the model's ``data_preprocessor``, which may also stand beside the model; version 0 in the step
``Normalize`` of the data pipelines, most often through a variable ``img_norm_cfg``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_STEP = "Normalize"
_VARIABLE = "img_norm_cfg"
PREPROCESSOR = "data_preprocessor"


def model_of(config: Mapping[str, Any]) -> Any:
    """Return the ``model`` entry of a whole mmseg config, with the normalization that the config states elsewhere.

    A model that has a normalization, and one whose config states none or several, are returned as they are.
    """
    model = config.get("model")
    if not isinstance(model, Mapping) or states_normalization(model):
        return model
    beside = config.get(PREPROCESSOR)
    if PREPROCESSOR not in model and isinstance(beside, Mapping):
        model = {**model, PREPROCESSOR: beside}
    step = None if states_normalization(model) else _normalize_step(config)
    return model if step is None else {**model, PREPROCESSOR: {**_as_mapping(model.get(PREPROCESSOR)), **step}}


def states_normalization(model: Mapping[str, Any]) -> bool:
    """Return whether a model's data preprocessor has a mean or std."""
    preprocessor = _as_mapping(model.get(PREPROCESSOR))
    return any(preprocessor.get(field) is not None for field in ("mean", "std"))


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _normalize_step(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the preprocessor that does what ``Normalize`` in the pipelines does; None without exactly one."""
    steps = [_as_preprocessor(step) for step in _steps_in(config)]
    variable = config.get(_VARIABLE)
    if not steps and isinstance(variable, Mapping):
        steps = [_as_preprocessor(variable)]
    return steps[0] if steps and all(step == steps[0] for step in steps) else None


def _steps_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every step ``Normalize`` at any depth, as those of test-time augmentation are nested."""
    if isinstance(value, Mapping):
        if str(value.get("type")).rpartition(".")[2] == _STEP:
            yield value
        for item in value.values():
            yield from _steps_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _steps_in(item)


def _as_preprocessor(step: Mapping[str, Any]) -> dict[str, Any]:
    mean, std = (list(value) if isinstance(value, tuple) else value for value in (step.get("mean"), step.get("std")))
    return {
        "type": "SegDataPreProcessor",
        "mean": mean,
        "std": std,
        "bgr_to_rgb": step.get("to_rgb", True),
        "pad_val": 0,
        "seg_pad_val": 255,
    }
