"""Study files: sources, targets and metrics, and every setting that decides their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_validator,
)

from seg_transfer.data.manifest import SCRATCH, DatasetManifest, load_manifest, load_manifests
from seg_transfer.data.validation import load_yaml
from seg_transfer.errors import ConfigError
from seg_transfer.models.devices import Precision
from seg_transfer.models.entry import Name, SourceEntry
from seg_transfer.models.hub import absolute_paths
from seg_transfer.models.sources import AnySource, code_of, marker_fields, parse_entry
from seg_transfer.resources import find, resolve_name
from seg_transfer.training.schedule import Schedule

# Fields of an entry that a study's own model does not have, because it is no source.
_OF_SOURCES = {"name": "model", "dataset": ""}


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Block):
    """How sources are trained: a schedule file, changes to its fields, a seed and an initialization.

    Attributes:
        schedule: YAML file of a Schedule, relative to the study, or the name of a shipped schedule.
        changes: Fields of the schedule that this study sets differently.
        seed: Seed of the initialization, image order and augmentation.
        init_checkpoint: ImageNet weights for the backbone of a `Study.model` that is an mmseg config; None means random
            weights.
    """

    schedule: Path
    changes: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    init_checkpoint: Path | None = None


class FineTuning(_Block):
    """How sources are fine-tuned on targets: a schedule, one run per seed, and the control from scratch.

    Attributes:
        schedule, changes: As in `Training`.
        seeds: Every pair is fine-tuned once per seed.
        scratch: Whether the control from scratch is also fine-tuned.
        keep_weights: Whether to keep the fine-tuned weights, stored like a trained source. This changes no number, so
            a fine-tuning that is already finished is not repeated for its weights.
    """

    schedule: Path
    changes: dict[str, Any] = Field(default_factory=dict)
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    scratch: bool = True
    keep_weights: bool = False


class Sampling(_Block):
    """How a target's pixel sample is drawn.

    Attributes:
        pixels_per_image: Number of labeled pixels drawn from each image without replacement; all if there are fewer.
        balance: Pixel probabilities are inverse to the label frequencies of the whole low-shot split (``dataset``) or
            of the image (``image``), or equal for all labeled pixels (``none``).
        grid: Draw from the full-resolution label map, or from labels nearest-resized to the stride-4 feature grid.
        seed: Seed of the random draw.
    """

    pixels_per_image: PositiveInt = 1000
    balance: Literal["dataset", "image", "none"] = "dataset"
    grid: Literal["full", "feature"] = "full"
    seed: NonNegativeInt = 0


class HoldOut(_Block):
    """Labeled images of every target that are kept for judging: neither scores nor training see them.

    Attributes:
        share: Share of the images; with few images, each half judges what the other one trained
            (see `seg_transfer.data.held_out`), and scores see all images.
        seed: Seed of the choice.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0


class Study(_Block):
    """The content of a study file, in which paths are relative to the file.

    Manifests, model and schedules may also be names of shipped files, such as ``camvid``, ``hrnetv2_w48`` and
    ``fine_tuning``.

    Attributes:
        name: Name of the study, and of its run folder.
        manifests: Manifest files, or folders of them; dataset names must be unique.
        sources: Names of datasets (a source is trained on each), or entries of existing sources.
        targets: Names of datasets.
        model: The network that is trained: an mmseg config, or the fields of an entry of any kind without name and
            dataset, whose weights the training starts from and whose last layer is replaced.
        source_training, fine_tuning: Schedules, required by the stages that train.
        metrics: Names of transferability metrics, or ``all``. A metric that combines scores stands for its parts.
        low_shot: Overrides the number of low-shot images of every manifest.
        hold_out: Labeled images that are kept for judging, as in a race; None keeps none.
        sampling: How pixels are drawn.
        normalisation: Whether images are normalized as the source model requires, or as the target's manifest says.
        precision: What networks compute features in; the features themselves are float32.
        keep_features: Whether to store the observations of every pair as float16; scores are then computed from these.
    """

    name: Name
    manifests: Annotated[tuple[Path, ...], Field(min_length=1)]
    sources: Annotated[tuple[AnySource, ...], Field(min_length=1)]
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    model: Path | SourceEntry | None = None
    source_training: Training | None = None
    fine_tuning: FineTuning | None = None
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("gbc", "leep", "logme", "h_score")
    low_shot: PositiveInt | None = None
    hold_out: HoldOut | None = None
    sampling: Sampling = Sampling()
    normalisation: Literal["model", "target"] = "model"
    precision: Precision = "float32"
    keep_features: bool = False

    @field_validator("sources", mode="before")
    @classmethod
    def _names_are_datasets(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": item, "dataset": item} if isinstance(item, str) else item for item in value]

    @field_validator("model", mode="before")
    @classmethod
    def _model_of_any_kind(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        stray = next((field for field in _OF_SOURCES if field in value), None)
        if stray:
            raise ValueError(f"field {stray} has no meaning for the study's own model; remove it")
        entry = parse_entry({**value, **_OF_SOURCES})
        if entry.kind == "study":
            raise ValueError(f"the study's own model is an mmseg config or has one of {marker_fields()}; add one")
        return entry

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        training = self.source_training
        if isinstance(self.model, SourceEntry) and training is not None and training.init_checkpoint is not None:
            raise ValueError(
                f"source_training.init_checkpoint has no meaning for a {self.model.kind} model, whose entry names its "
                "weights; remove one of them"
            )
        return self

    @field_serializer("model", mode="wrap")
    def _dumped_model(self, value: object, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> object:
        if not isinstance(value, SourceEntry):
            return dump(value)
        return {name: field for name, field in value.model_dump(mode=info.mode).items() if name not in _OF_SOURCES}

    @field_validator("metrics", mode="before")
    @classmethod
    def _all_metrics(cls, value: object) -> object:
        from seg_transfer.metrics import METRICS

        return tuple(METRICS) if value == "all" else value

    @field_validator("metrics")
    @classmethod
    def _scored_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from seg_transfer.metrics import METRICS

        for name in value:
            if name not in METRICS:
                raise ValueError(f"unknown metric {name!r}; choose among {', '.join(METRICS)}")
        # A metric that combines the scores of several pairs has no score for a single pair, so its parts are scored.
        return tuple(dict.fromkeys(chain.from_iterable(map(_scored_for, value))))

    def code(self) -> list[str]:
        """Return the names of external Python code that the study runs: its own model, and code of its sources."""
        if isinstance(self.model, SourceEntry):
            return code_of([*self.sources, self.model])
        return code_of(self.sources, self.model)

    @property
    def model_name(self) -> str:
        """The name of the study's own model in source cards; "" without one."""
        if isinstance(self.model, SourceEntry):
            return self.model.network_name or ""
        return self.model.name if self.model else ""

    def source(self, name: str) -> SourceEntry:
        """Return the source with this name, which must exist."""
        return next(source for source in self.sources if source.name == name)


def _scored_for(metric: str) -> list[str]:
    """Return the metrics to score for a metric: its parts if it combines scores, otherwise the metric itself."""
    from seg_transfer.metrics import METRICS

    if "scores" not in METRICS[metric].needs:
        return [metric]
    return [part for parts in METRICS[metric].settings.values() for part in str(parts).split(",")]


def load_study(file: Path) -> tuple[Study, dict[str, DatasetManifest]]:
    """Read a study and the manifests of its datasets.

    Args:
        file: The YAML file, or the name of a shipped study, such as ``paper_272``.

    Returns:
        The study with absolute paths, and its manifests by dataset name, with the study's low-shot limit.

    Raises:
        ConfigError: The file breaks a rule, or a dataset, metric or file that it names does not exist.
    """
    file = find("study", file)
    study = _with_resolved_paths(load_yaml(file, Study), file.resolve().parent)
    known = _all_manifests(study.manifests)
    for field in ("source_training", "fine_tuning"):
        _check_schedule(file, field, getattr(study, field))
    names = [source.name for source in study.sources]
    for field, entries in (("sources", names), ("targets", list(study.targets))):
        duplicate = next((entry for entry in entries if entries.count(entry) > 1), None)
        if duplicate:
            raise ConfigError(f"{file}: field {field}: {duplicate!r} appears twice; remove one of the entries")
    if SCRATCH in names:
        raise ConfigError(f"{file}: field sources: {SCRATCH!r} is reserved for the control; choose another name")
    trained = [source.dataset for source in study.sources if source.kind == "study"]
    for field, datasets in (("sources", trained), ("targets", study.targets)):
        for dataset in datasets:
            if dataset not in known:
                raise ConfigError(
                    f"{file}: field {field}: unknown dataset {dataset!r}; the manifests have {', '.join(known)}"
                )
    needed = {*study.targets, *(source.dataset for source in study.sources)}
    return study, {name: known[name].with_limit(study.low_shot) for name in known if name in needed}


def schedule_of(training: Training | FineTuning) -> Schedule:
    """Read the schedule of a training and apply the study's changes."""
    return load_yaml(training.schedule, Schedule, changes=training.changes)


def _check_schedule(file: Path, field: str, training: Training | FineTuning | None) -> None:
    try:
        if training is not None:
            schedule_of(training)
    except ConfigError as error:
        raise ConfigError(f"{file}: field {field}: {error}") from error


def _all_manifests(paths: tuple[Path, ...]) -> dict[str, DatasetManifest]:
    known: dict[str, DatasetManifest] = {}
    for path in paths:
        loaded = load_manifests(path) if path.is_dir() else {(manifest := load_manifest(path)).name: manifest}
        duplicate = known.keys() & loaded.keys()
        if duplicate:
            raise ConfigError(f"{path}: dataset {min(duplicate)!r} already has a manifest; list only one of them")
        known.update(loaded)
    return known


def _with_resolved_paths(study: Study, folder: Path) -> Study:
    """Return the study with absolute paths, and with names of shipped files replaced by their paths."""
    fields = study.model_dump()
    fields["manifests"] = [
        path if (folder / path).is_dir() else resolve_name("manifest", path, folder) for path in study.manifests
    ]
    if isinstance(study.model, Path):
        fields["model"] = resolve_name("model", study.model, folder)
    for training in filter(None, (fields["source_training"], fields["fine_tuning"])):
        training["schedule"] = resolve_name("schedule", training["schedule"], folder)
    return Study.model_validate(absolute_paths(fields, folder))
