"""Cards of sources, for tests that look at some of their fields."""

from typing import Any

from seg_transfer.store.source_card import SourceCard


def source_card(name: str, **fields: Any) -> SourceCard:
    """A valid card; its dataset is called like the source, unless a field says otherwise."""
    usual = {
        "source": name,
        "dataset": name,
        "classes": ("a", "b"),
        "config": "tiny.py",
        "model": {},
        "weights": "weights.safetensors",
        "sha256": "0",
        "initialisation": "random",
        "seed": 0,
        "steps": 1,
        "schedule": {},
        "n_train_images": 1,
        "miou": 0.5,
        "class_iou": (0.5,) * len(fields.get("classes", "ab")),
        "absent_classes": (),
        "n_eval_images": 1,
        "seconds": 1.0,
        "content_key": "k",
        "seg_transfer_version": "0",
        "created_utc": "2024-01-01T00:00:00+00:00",
    }
    return SourceCard.model_validate(usual | fields)
