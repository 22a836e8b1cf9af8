"""The networks of a study: those that it trains, as plain data, and those of its sources. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.configs import ModelConfig, read_model_config, resolve, with_classes, with_normalisation
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.specs import MmsegSource, SourceSpec, spec_key
from seg_transfer.store.content_key import Key, sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.study.definition import schedule_of
from seg_transfer.study.run import Run, training_of


def target_network(run: Run, dataset: str) -> ModelConfig:
    """The study's network with a classifier for a dataset and images normalised by its manifest."""
    if run.study.model is None:
        raise ConfigError(
            f"study {run.study.name}: field model is missing; name the network to train, or train none: "
            "every source with a checkpoint, and fine_tuning.scratch: false"
        )
    manifest = run.manifests[dataset]
    model = read_model_config(run.study.model, memo=run.memo)
    return with_normalisation(with_classes(model, len(manifest.classes)), manifest.mean, manifest.std)


def source_network(run: Run, entry: SourceEntry) -> ModelConfig | None:
    """The network of a source, trained or not; None where it is none of mmsegmentation's, or gives scores only."""
    if entry.kind == "study":
        return target_network(run, entry.dataset)
    if entry.config is None or entry.scores_only:
        return None
    return resolve(entry.config, entry.checkpoint, memo=run.memo)[0]


def init_checkpoint_of(run: Run) -> Path | None:
    """The ImageNet weights that the study's own networks start from; None for random ones."""
    checkpoint = run.study.source_training.init_checkpoint if run.study.source_training else None
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file; correct source_training.init_checkpoint in the study")
    return checkpoint


def source_spec(run: Run, entry: SourceEntry) -> SourceSpec:
    """What a source is made of, as `load_source` takes it.

    Raises CheckpointError for a source that is not trained yet, or was trained with settings the study has changed.
    """
    if entry.kind != "study":
        return entry.spec()
    file = run.source_folder(entry.name) / FILE_NAME
    card = read_source_card(file)
    training = training_of(run)
    schedule = schedule_of(training).model_dump(mode="json")
    if (card.schedule, card.seed, card.model) != (schedule, training.seed, target_network(run, entry.dataset)):
        raise CheckpointError(f"{file}: trained with other settings than the study has now; run train-sources again")
    return MmsegSource(file)


def tunable_source(run: Run, entry: SourceEntry) -> MmsegSource:
    """What a source that is to be fine-tuned is made of; raises ConfigError for a kind that cannot be."""
    spec = source_spec(run, entry)
    if isinstance(spec, MmsegSource) and not spec.scores_only:
        return spec
    what = "gives scores only" if entry.scores_only else f"is a {entry.kind} model"
    raise ConfigError(
        f"source {entry.name}: {what} and cannot be fine-tuned here, only scored; bring it as an mmsegmentation config "
        "and checkpoint, or choose others with --source"
    )


def weights_key(run: Run, entry: SourceEntry) -> Key:
    """Key of a source's network and weights; raises CheckpointError as `source_spec` does."""
    return run.cached(f"weights of {entry.name}", lambda: spec_key(source_spec(run, entry), memo=run.memo))


def initialization_key(run: Run) -> str | None:
    """Hash of the weights that the study's own networks start from; None for random ones."""
    checkpoint = init_checkpoint_of(run)
    return sha256_of_file(checkpoint, run.memo) if checkpoint else None
