"""Content keys of trainings: one for each arithmetic in which the settings allow a training to be computed."""

from __future__ import annotations

from collections.abc import Mapping

from seg_transfer.stages.changes import NOT_RECORDED
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.training.schedule import Schedule

# The arithmetic of a training -> key of all that decides its weights, and of all that decides its weights and its mIoU.
# NOT_RECORDED stands for what a training of an earlier version was computed in: one of those that its settings allow.
TrainingKeys = Mapping[str, tuple[Key, Key]]


def keys_by_arithmetic(schedule: Schedule, parts: Mapping[str, object], eval_key: Key) -> TrainingKeys:
    """The keys of a training that is decided by these parts, its schedule and its arithmetic."""
    common = {**parts, "schedule": schedule.model_dump(mode="json")}
    by_arithmetic: dict[str, dict[str, object]] = {
        name: {**common, "arithmetic": name} for name in schedule.arithmetics
    }
    by_arithmetic[NOT_RECORDED] = common
    return {name: (content_key(**own), content_key(**own, eval=eval_key)) for name, own in by_arithmetic.items()}


def is_valid(stored_key: str, keys: TrainingKeys) -> bool:
    """Whether a training with this key is one of those that the settings ask for, on any kind of machine."""
    return any(stored_key == key for _, key in keys.values())


def nearest_key(keys: TrainingKeys, stored: Mapping[str, str]) -> Key:
    """The key of the arithmetic that a stored training was done in, or of the one that is always allowed."""
    return keys.get(stored.get("arithmetic", NOT_RECORDED), keys["float32"])[1]
