"""Trained networks as sources of pixel features."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_transfer.models.checkpoints import load_checkpoint
    from seg_transfer.models.outputs import FeatureMaps
    from seg_transfer.models.source_model import SourceModel, load_source_model

_HOMES = {
    "FeatureMaps": "outputs",
    "SourceModel": "source_model",
    "load_checkpoint": "checkpoints",
    "load_source_model": "source_model",
}
__all__ = ["FeatureMaps", "SourceModel", "load_checkpoint", "load_source_model"]


def __getattr__(name: str) -> object:
    """Import torch only when one of the public names is used: configs are read without it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
