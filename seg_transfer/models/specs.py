"""What sources are made of, one plain class per kind of model, and the keys of their numbers; without torch.

A new kind of model is one class here, one adapter file, and one line in ``load.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from seg_transfer.errors import CheckpointError
from seg_transfer.models.configs import source_key
from seg_transfer.models.factory_code import digest_of_code
from seg_transfer.models.transformers_folder import read_folder
from seg_transfer.store.content_key import Key, content_key, sha256_of_file

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class MmsegSource:
    """An mmseg config file, or a ``source.json``, and its checkpoint."""

    config: str | Path
    checkpoint: str | Path | None = None
    scores_only: bool = False


@dataclass(frozen=True)
class TransformersSource:
    """A folder that ``save_pretrained`` wrote. `mean` and `std` (RGB, fractions of 255) replace the folder's own."""

    folder: Path
    mean: RGB | None = None
    std: RGB | None = None
    scores_only: bool = False


@dataclass(frozen=True)
class TimmSource:
    """An HRNet of timm with one linear layer on its concatenated branches; `mean`, `std` RGB, fractions of 255."""

    model: str
    weights: Path
    mean: RGB
    std: RGB


@dataclass(frozen=True)
class FactorySource:
    """A function that makes a network, and the file of its weights.

    Attributes:
        factory: ``package.module:function``; called without arguments, it returns a ``torch.nn.Module``.
        folder: Modules are looked for here before they are among the installed ones.
        weights: A state dict with exactly the network's parameters.
        classifier: Dotted name of the network's last linear or 1x1 layer; "" where only scores are read.
        mean, std: RGB, fractions of 255.
        channel_order: "rgb" or "bgr", the order in which the network takes the channels.
        scores_only: The network's answer is read, and no features.
    """

    factory: str
    folder: Path
    weights: Path
    classifier: str
    mean: RGB
    std: RGB
    channel_order: str = "rgb"
    scores_only: bool = False


SourceSpec = MmsegSource | TransformersSource | TimmSource | FactorySource


def spec_key(spec: SourceSpec, *, memo: Path | None = None) -> Key:
    """Key of all that decides what a source sees: equal keys mean equal feature maps and scores. Loads nothing.

    `memo` is a folder in which what was made of files that do not change is kept. Of a factory, the key covers the
    weights and the source text of its module and of all modules that this imports from the same folder or package.

    Raises:
        ConfigError: A config or a module cannot be read.
        CheckpointError: Weights are missing.
    """
    match spec:
        case MmsegSource():
            key = source_key(spec.config, spec.checkpoint, memo=memo)
            return _of_scores(key) if spec.scores_only else key
        case TransformersSource():
            found = read_folder(spec.folder, spec.mean, spec.std)
            return content_key(
                kind="transformers",
                model=found.config,
                weights=[_sha256(file, memo) for file in found.weights],
                mean=found.mean,
                std=found.std,
                channel_order=found.channel_order,
                scores_only=spec.scores_only,
            )
        case TimmSource():
            weights = _sha256(spec.weights, memo)
            return content_key(kind="timm", model=spec.model, weights=weights, mean=spec.mean, std=spec.std)
        case FactorySource():
            return content_key(
                kind="factory",
                factory=spec.factory,
                code=digest_of_code(spec.factory, spec.folder, memo),
                weights=_sha256(spec.weights, memo),
                classifier=spec.classifier,
                mean=spec.mean,
                std=spec.std,
                channel_order=spec.channel_order,
                scores_only=spec.scores_only,
            )


def _of_scores(key: Key) -> Key:
    return Key(content_key(source=key, scores_only=True), {**key.parts, "scores_only": "true"})


def _sha256(weights: Path, memo: Path | None) -> str:
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such checkpoint file; check the path of the source's weights")
    return sha256_of_file(weights, memo)
