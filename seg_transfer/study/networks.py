"""The networks that a study trains, and those of its sources, as plain data; needs no torch."""

from __future__ import annotations

from pathlib import Path

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.configs import ModelConfig, read_model_config, with_classes, with_normalization
from seg_transfer.models.entry import SourceEntry
from seg_transfer.store.content_key import Key, sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.study.definition import schedule_of
from seg_transfer.study.run import Run, training_of


def target_network(run: Run, dataset: str) -> ModelConfig:
    """Return the study's network with a classifier for a dataset and the normalization of its manifest.

    Raises:
        ConfigError: The study names no model, or its config cannot be read.
    """
    if run.study.model is None:
        raise ConfigError(
            f"study {run.study.name}: field model is missing; name the network to train, or train none: "
            "give every source a checkpoint, and set fine_tuning.scratch: false"
        )
    manifest = run.manifests[dataset]
    model = read_model_config(run.study.model, memo=run.memo)
    return with_normalization(with_classes(model, len(manifest.classes)), manifest.mean, manifest.std)


def source_network(run: Run, entry: SourceEntry) -> ModelConfig | None:
    """Return the network of a source, whether trained or not; None if the source cannot be fine-tuned."""
    if entry.kind == "study":
        return target_network(run, entry.dataset)
    return entry.network(memo=run.memo)


def init_checkpoint_of(run: Run) -> Path | None:
    """Return the file of ImageNet weights that the study's own networks start from; None for random weights.

    Raises:
        CheckpointError: The file does not exist.
    """
    checkpoint = run.study.source_training.init_checkpoint if run.study.source_training else None
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file; correct source_training.init_checkpoint in the study")
    return checkpoint


def loadable_source(run: Run, entry: SourceEntry) -> SourceEntry:
    """Return an entry that can be loaded; for a source that the study trains, the entry of its trained weights.

    Raises:
        CheckpointError: The source is not trained yet, or was trained with settings that the study has since changed.
    """
    if entry.kind != "study":
        return entry
    file = run.source_folder(entry.name) / FILE_NAME
    card = read_source_card(file)
    training = training_of(run)
    schedule = schedule_of(training).model_dump(mode="json")
    if (card.schedule, card.seed, card.model) != (schedule, training.seed, target_network(run, entry.dataset)):
        raise CheckpointError(
            f"{file}: trained with other settings than the study's current ones; run train-sources again"
        )
    return MmsegEntry(name=entry.name, dataset=entry.dataset, config=file)


def tunable_source(run: Run, entry: SourceEntry) -> MmsegEntry:
    """Return the entry of a source for fine-tuning.

    Raises:
        CheckpointError: See `loadable_source`.
        ConfigError: This kind of source cannot be fine-tuned.
    """
    source = loadable_source(run, entry)
    if isinstance(source, MmsegEntry) and not source.scores_only:
        return source
    what = "gives scores only" if entry.scores_only else f"is a {entry.kind} model"
    raise ConfigError(
        f"source {entry.name}: {what} and cannot be fine-tuned here, only scored; bring it as an mmsegmentation config "
        "and checkpoint, or choose others with --source"
    )


def weights_key(run: Run, entry: SourceEntry) -> Key:
    """Return the key of a source's network and weights; raises CheckpointError like `loadable_source`."""
    return run.cached(f"weights of {entry.name}", lambda: loadable_source(run, entry).key(memo=run.memo))


def initialization_key(run: Run) -> str | None:
    """Return the hash of the weights that the study's own networks start from; None for random weights."""
    checkpoint = init_checkpoint_of(run)
    return sha256_of_file(checkpoint, run.memo) if checkpoint else None
