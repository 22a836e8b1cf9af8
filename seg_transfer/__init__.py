"""Transferability estimation for semantic segmentation: which source model to fine-tune on a target dataset."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_transfer.evaluation import evaluate
    from seg_transfer.metrics import score_all
    from seg_transfer.selection.choose import choose_source
    from seg_transfer.selection.rank import rank_sources

__all__ = ["choose_source", "evaluate", "rank_sources", "score_all"]

__version__ = "0.1.0"

_MODULES = {
    "choose_source": "seg_transfer.selection.choose",
    "evaluate": "seg_transfer.evaluation",
    "rank_sources": "seg_transfer.selection.rank",
    "score_all": "seg_transfer.metrics",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the package alone imports neither torch nor pandas."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
