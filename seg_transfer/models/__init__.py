"""Trained networks as sources of pixel features."""

from seg_transfer.models.checkpoints import load_checkpoint
from seg_transfer.models.source_model import FeatureMaps, SourceModel, load_source_model

__all__ = ["FeatureMaps", "SourceModel", "load_checkpoint", "load_source_model"]
