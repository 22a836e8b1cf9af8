"""Trained networks as sources of pixel features."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_transfer.models.checkpoints import load_checkpoint
    from seg_transfer.models.source_model import FeatureMaps, SourceModel, load_source_model

__all__ = ["FeatureMaps", "SourceModel", "load_checkpoint", "load_source_model"]


def __getattr__(name: str) -> object:
    """Import torch only when one of the public names is asked for: configs are read without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "checkpoints" if name == "load_checkpoint" else "source_model"
    return getattr(import_module(f"{__name__}.{module}"), name)
