"""The family of a source: sources of one architecture whose features have one form, so that their scores compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seg_transfer.errors import SegTransferError
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.source_model import SourceModel


def family_of(entry: SourceEntry, source: SourceModel) -> str:
    """Describe a source's architecture, and the width and strides of its features.

    Args:
        entry: Where the network comes from.
        source: The network as it is read.

    Returns:
        Such as "HRNet FCNHead, 270 at stride 4", or "resnet50, 3904 at strides 2 to 32" of several maps.
    """
    return f"{architecture_name(entry)}, {_form(source)}"


def architecture_name(entry: SourceEntry) -> str:
    """Return the name of a network's architecture, or its kind where its description has none.

    The size is not always part of the name: all HRNets of mmsegmentation are "HRNet".
    """
    try:
        return _name_in(entry.local().architecture()) or entry.network_kind
    except SegTransferError:  # a kind that does not say how its networks are built
        return entry.kind


def _name_in(architecture: Mapping[str, Any]) -> str:
    nested = architecture.get("architecture")
    if isinstance(nested, Mapping):  # a network that was trained here keeps the description of what it was before
        return _name_in(nested)
    parts = [_last(architecture.get(part)) for part in ("backbone", "decode_head")]  # of mmsegmentation
    types = [str(part["type"]) for part in parts if isinstance(part, Mapping) and "type" in part]
    config = architecture.get("config")
    if not types and isinstance(config, Mapping):  # of transformers
        return str(config.get("model_type", ""))
    return " ".join(types) or str(architecture.get("model") or architecture.get("factory") or "")


def _last(part: object) -> object:
    """Return the last of several heads, which gives the scores."""
    return part[-1] if isinstance(part, list | tuple) and part else part


def _form(source: SourceModel) -> str:
    if not source.features_known:
        return "class scores alone"
    strides = sorted({layer.stride for layer in source.layers})
    where = f"stride {strides[0]:g}" if len(strides) == 1 else f"strides {strides[0]:g} to {strides[-1]:g}"
    return f"{source.n_features} at {where}"
