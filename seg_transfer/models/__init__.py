"""Trained networks as sources of pixel features."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seg_transfer.models.checkpoints import load_checkpoint
    from seg_transfer.models.loading import load_source_model
    from seg_transfer.models.outputs import FeatureMaps
    from seg_transfer.models.source_model import SourceModel

_MODULES = {
    "FeatureMaps": "outputs",
    "SourceModel": "source_model",
    "load_checkpoint": "checkpoints",
    "load_source_model": "loading",
}
__all__ = ["FeatureMaps", "SourceModel", "load_checkpoint", "load_source_model"]


def __getattr__(name: str) -> object:
    """Import a public name, and with it torch, when it is first used: configs are read without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
