"""Loading a source model of any kind."""

from __future__ import annotations

from seg_transfer.models.factory_source import load_factory
from seg_transfer.models.source_model import SourceModel, load_source_model
from seg_transfer.models.specs import FactorySource, MmsegSource, SourceSpec, TimmSource, TransformersSource
from seg_transfer.models.timm_source import load_timm
from seg_transfer.models.transformers_source import load_transformers


def load_source(spec: SourceSpec, *, device: str = "cpu") -> SourceModel:
    """Load a source model of any kind onto a device.

    At load it is checked that the scores before which features are read are the network's answer.

    Raises:
        ConfigError: The model cannot be made, its library is missing, or its features cannot be read.
        CheckpointError: Its weights are missing, unsafe, or do not fit.
    """
    match spec:
        case MmsegSource():
            return load_source_model(spec.config, spec.checkpoint, device=device, scores_only=spec.scores_only)
        case TransformersSource():
            return load_transformers(spec, device)
        case TimmSource():
            return load_timm(spec, device)
        case FactorySource():
            return load_factory(spec, device)
