"""Content keys of trainings, one for each arithmetic that the settings allow."""

from __future__ import annotations

from collections.abc import Mapping

from seg_transfer.stages.changes import NOT_RECORDED, changed_parts
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.source_card import SourceCard
from seg_transfer.training.schedule import Schedule

# Arithmetic of a training -> the key of its weights, and the key of its weights and its mIoU. NOT_RECORDED stands for
# the arithmetic of a training by an earlier version, which did not record it.
TrainingKeys = Mapping[str, tuple[Key, Key]]
# Part of the keys of sources, as of everything that depends on a manifest, although they are trained on `source_train`.
_LOW_SHOT = "manifest.low_shot"


def keys_by_arithmetic(schedule: Schedule, parts: Mapping[str, object], eval_key: Key) -> TrainingKeys:
    """Return the keys of a training that depends on these parts, its schedule and its arithmetic."""
    common = {**parts, "schedule": schedule.model_dump(mode="json")}
    by_arithmetic: dict[str, dict[str, object]] = {
        name: {**common, "arithmetic": name} for name in schedule.arithmetics
    }
    by_arithmetic[NOT_RECORDED] = common
    return {name: (content_key(**named), content_key(**named, eval=eval_key)) for name, named in by_arithmetic.items()}


def is_valid(stored_key: str, keys: TrainingKeys) -> bool:
    """Whether a stored key matches the settings, for any arithmetic that they allow."""
    return any(stored_key == key for _, key in keys.values())


def is_current(card: SourceCard, keys: TrainingKeys) -> bool:
    """Whether a source was trained with these settings; another low-shot subset, which it never saw, does no harm."""
    if is_valid(card.content_key, keys):
        return True
    return any(changed_parts(card.key_parts, key) == [_LOW_SHOT] for _, key in keys.values())


def nearest_key(keys: TrainingKeys, stored: Mapping[str, str]) -> Key:
    """Return the key for the arithmetic of a stored training, or for float32, which is always allowed."""
    return keys.get(stored.get("arithmetic", NOT_RECORDED), keys["float32"])[1]
