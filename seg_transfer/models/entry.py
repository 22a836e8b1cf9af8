"""A source as a study or a bank names it: one entry of YAML, in one of five kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from seg_transfer.data.manifest import Number
from seg_transfer.models.factory_code import FACTORY
from seg_transfer.models.specs import FactorySource, MmsegSource, SourceSpec, TimmSource, TransformersSource
from seg_transfer.resources import shipped
from seg_transfer.store.source_card import FILE_NAME

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Kind = Literal["study", "mmseg", "transformers", "timm", "factory"]
Three = tuple[Number, Number, Number]

# The field that makes an entry one of a kind -> the kind, the fields it must have, and those it may have.
_KINDS: dict[str, tuple[Kind, tuple[str, ...], tuple[str, ...]]] = {
    "config": ("mmseg", (), ("checkpoint", "scores_only")),
    "transformers": ("transformers", (), ("mean", "std", "scores_only")),
    "timm": ("timm", ("weights",), ("mean", "std")),
    "factory": (
        "factory",
        ("weights", "mean", "std"),
        ("classifier", "factory_folder", "channel_order", "input_scale", "scores_only"),
    ),
}
# What timm's HRNets were trained with.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SourceEntry(BaseModel):
    """A source of a study: trained by the study on its dataset, or brought along as one of four kinds of model.

    Which kind follows from which of ``config``, ``transformers``, ``timm`` and ``factory`` is there; with none of them
    the study trains the source.

    Attributes:
        name: Its name in tables and folders.
        dataset: What it was trained on; no pair is made of a source and that same target.
        config: mmseg model config of the checkpoint, or a ``source.json``.
        checkpoint: Its weights.
        transformers: A folder that ``save_pretrained`` of the transformers library wrote.
        timm: An HRNet of timm, such as ``hrnet_w48``, with a linear head (see `models.timm_source`).
        factory: ``package.module:function``, which returns a ``torch.nn.Module`` when called without arguments.
        factory_folder: Where that module is looked for, before the installed ones; by default beside the YAML file.
        classifier: Of a factory's network: dotted name of the last linear or 1x1 layer.
        weights: State dict (safetensors, or ``torch.save``) of a timm or factory network.
        mean, std: RGB. A pixel value p of 0 .. 255 enters the network as (p * input_scale / 255 - mean) / std; with
            an ``input_scale`` of 1, the default, they are fractions of 255.
        channel_order: The order in which a factory's network takes the channels; ``rgb`` by default.
        input_scale: What a pixel value of 255 becomes before mean and std are applied: 1 or 255.
        scores_only: Use the class probabilities that the network answers, and no features: for a network that does not
            end in a linear classifier. Metrics that need features are not computed for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    dataset: str
    config: Path | None = None
    checkpoint: Path | None = None
    transformers: Path | None = None
    timm: Annotated[str, Field(pattern=r"^hrnet_[A-Za-z0-9_.]+$")] | None = None
    factory: str | None = None
    factory_folder: Path | None = None
    classifier: Annotated[str, Field(min_length=1)] | None = None
    weights: Path | None = None
    mean: Three | None = None
    std: Three | None = None
    channel_order: Literal["rgb", "bgr"] | None = None
    input_scale: Literal[1, 255] | None = None
    scores_only: bool = False

    @model_validator(mode="before")
    @classmethod
    def _folder_of_factory(cls, value: object) -> object:
        """A factory lies beside the file that names it: "." becomes the folder of that file, as all relative paths."""
        if isinstance(value, Mapping) and value.get("factory") is not None and value.get("factory_folder") is None:
            return {**value, "factory_folder": "."}
        return value

    @model_validator(mode="after")
    def _one_kind_with_its_fields(self) -> Self:
        named = [field for field in _KINDS if getattr(self, field) is not None]
        if len(named) > 1:
            raise ValueError(f"source {self.name!r} has {' and '.join(named)}, which are two kinds of model; keep one")
        if not named and self.checkpoint is not None:
            raise ValueError(f"source {self.name!r} has a checkpoint and no config; name the config it belongs to")
        kind, needed, possible = _KINDS[named[0]] if named else ("study", (), ())
        for field in SourceEntry.model_fields:
            given, own = getattr(self, field) not in (None, False), (*named, "name", "dataset", *needed, *possible)
            if given and field not in own:
                whose = f"of a {kind} source" if named else "without one of config, transformers, timm and factory"
                raise ValueError(f"source {self.name!r}: field {field} has no meaning {whose}; remove it")
            if not given and field in needed:
                raise ValueError(f"source {self.name!r}: field {field} is missing; a {kind} source needs it")
        return self

    @model_validator(mode="after")
    def _config_with_checkpoint(self) -> Self:
        if self.config is not None and self.checkpoint is None and self.config.name != FILE_NAME:
            raise ValueError(f"source {self.name!r} has a config and no checkpoint; name its weights")
        return self

    @model_validator(mode="after")
    def _a_usable_factory(self) -> Self:
        if self.factory is None:
            return self
        if not FACTORY.fullmatch(self.factory):
            raise ValueError(
                f"source {self.name!r}: field factory: {self.factory!r}: must be package.module:function; correct it"
            )
        if self.classifier is None and not self.scores_only:
            raise ValueError(
                f"source {self.name!r}: field classifier is missing; name the last linear or 1x1 layer, or set "
                "scores_only: true"
            )
        return self

    @model_validator(mode="after")
    def _mean_and_std_of_one_scale(self) -> Self:
        scale = self.input_scale or 1
        # A mean of fractions beside values up to 255 would leave the images as they are.
        if self.mean and not (
            all(0 <= value <= scale for value in self.mean) and (scale == 1 or _is_of_bytes(self.mean))
        ):
            raise ValueError(
                f"source {self.name!r}: field mean: {list(self.mean)}: with input_scale {scale} it must be of values "
                f"from 0 to {scale}; correct one of them"
            )
        if self.std and not all(value > 0 for value in self.std):
            raise ValueError(f"source {self.name!r}: field std: {list(self.std)}: must be positive; correct it")
        return self

    @model_serializer(mode="wrap")
    def _what_is_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the fields of other kinds."""
        return {field: value for field, value in dump(self).items() if value is not None and value is not False}

    @property
    def kind(self) -> Kind:
        """What the source is made of; "study" when the study trains it."""
        return next((kind for field, (kind, *_) in _KINDS.items() if getattr(self, field) is not None), "study")

    def spec(self) -> SourceSpec:
        """What `load_source` and `spec_key` take; where the study trains the source, its run folder says that."""
        mean, std, scale = self.mean, self.std, self.input_scale or 1
        if self.config is not None:
            return MmsegSource(self.config, self.checkpoint, self.scores_only)
        if self.transformers is not None:
            return TransformersSource(self.transformers, mean, std, self.scores_only)
        assert self.weights is not None
        if self.timm is not None:
            return TimmSource(self.timm, self.weights, mean or _IMAGENET_MEAN, std or _IMAGENET_STD)
        assert self.factory is not None
        assert self.factory_folder is not None
        assert mean is not None
        assert std is not None
        return FactorySource(
            factory=self.factory,
            folder=self.factory_folder,
            weights=self.weights,
            classifier="" if self.scores_only else self.classifier or "",
            mean=(mean[0] / scale, mean[1] / scale, mean[2] / scale),
            std=(std[0] / scale, std[1] / scale, std[2] / scale),
            channel_order=self.channel_order or "rgb",
            scores_only=self.scores_only,
        )


def code_of(sources: Iterable[SourceEntry], *configs: Path | None) -> list[str]:
    """What of these sources, and of other model configs, is Python code from elsewhere: it is run when it is loaded."""
    entries = list(sources)
    factories = [
        f"factory {entry.factory} (looked for in {entry.factory_folder})" for entry in entries if entry.factory
    ]
    named = {path for path in (*configs, *(entry.config for entry in entries)) if path is not None}
    return [*map(str, code_configs_among(named)), *dict.fromkeys(factories)]


def code_configs_among(configs: Iterable[Path]) -> list[Path]:
    """The model configs that are Python code from elsewhere: reading one runs it."""
    own = shipped("configs").resolve()
    return sorted(path for path in configs if path.suffix == ".py" and not path.is_relative_to(own))


def absolute(value: Any, folder: Path) -> Any:
    """The same plain data with every path made absolute; relative ones are relative to `folder`."""
    if isinstance(value, Path):
        return (folder / value).resolve()
    if isinstance(value, Mapping):
        return {key: absolute(item, folder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [absolute(item, folder) for item in value]
    return value


def _is_of_bytes(mean: Three) -> bool:
    return max(mean) == 0 or max(mean) > 1
