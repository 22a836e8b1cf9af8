"""Content keys of the files of an explanation."""

from __future__ import annotations

from seg_transfer.metrics import METRICS
from seg_transfer.store.content_key import Key, content_key

# With more pixels, the dots of one class would hide those of another.
MAP_PIXELS = 2000


def explanation_keys(observations: Key, method: str, n_pixels: int) -> dict[str, Key]:
    """Return the key of each file of a pair's explanation; `method` and `n_pixels` apply to the map."""
    gbc = METRICS["gbc"]
    return {
        "overlaps": content_key(observations=observations, overlaps=dict(gbc.settings), version=gbc.version),
        "classes": content_key(observations=observations, classes="pixels of the sample"),
        "map": content_key(observations=observations, map=method, n_pixels=n_pixels),
    }


def fine_tuned_map_key(before: Key, weights: Key) -> Key:
    """Return the key of a pair's map after fine-tuning; `before` is the key of the map before fine-tuning."""
    return content_key(before=before, weights=weights)
