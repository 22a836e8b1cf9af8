"""The networks that a study trains, and those of its sources, as plain data; needs no torch."""

from __future__ import annotations

from pathlib import Path

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models import adapters
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.configs import ModelConfig, read_model_config, with_classes, with_normalization
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.libraries import Library
from seg_transfer.store.content_key import Key, content_key, sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card
from seg_transfer.study.definition import FineTuning, Training, schedule_of
from seg_transfer.study.run import Run, training_of
from seg_transfer.training.schedule import Schedule


def own_model(run: Run) -> Path | SourceEntry:
    """Return the study's own model: the path of an mmseg config, or an entry of any kind.

    Raises:
        ConfigError: The study names no model.
    """
    if run.study.model is None:
        raise ConfigError(
            f"study {run.study.name}: field model is missing; name the network to train, or train none: "
            "give every source a checkpoint, and set fine_tuning.scratch: false"
        )
    return run.study.model


def own_entry(run: Run) -> SourceEntry | None:
    """Return the study's own model where it is an entry."""
    return run.study.model if isinstance(run.study.model, SourceEntry) else None


def own_segmentor(run: Run) -> MmsegEntry | None:
    """Return the study's own model where it is an entry whose network is mmsegmentation's."""
    entry = own_entry(run)
    local = None if entry is None else entry.local()
    return local if isinstance(local, MmsegEntry) and local.network_kind == local.kind else None


def target_network(run: Run, dataset: str) -> ModelConfig:
    """Describe the study's network with a classifier for a dataset.

    Returns:
        The mmseg config of such a network, normalized by the dataset's manifest. For an entry, which has its own
        normalization, what is trained of it: the number of classes, and the manifest's mean and std if the study
        normalizes images by those.

    Raises:
        ConfigError: The study names no model, or its config cannot be read.
    """
    named, manifest = own_model(run), run.manifests[dataset]
    segmentor = own_segmentor(run)
    if segmentor is not None:
        model = with_classes(segmentor.resolved(memo=run.memo)[0], len(manifest.classes))
        by_target = run.study.normalisation == "target"
        return with_normalization(model, manifest.mean, manifest.std) if by_target else model
    if isinstance(named, SourceEntry):
        statistics = {"mean": list(manifest.mean), "std": list(manifest.std)}
        of_target = statistics if run.study.normalisation == "target" else {}
        return {"kind": named.network_kind, "n_classes": len(manifest.classes), **of_target}
    model = read_model_config(named, memo=run.memo)
    return with_normalization(with_classes(model, len(manifest.classes)), manifest.mean, manifest.std)


def libraries_of(run: Run, entry: SourceEntry) -> tuple[Library, ...]:
    """Return the libraries that provide a source's network; a network that is trained has those of what it was before.

    Raises:
        ConfigError: The description of a network that was trained is damaged.
    """
    own = own_entry(run)
    if own is not None and entry.kind == "study":
        entry = own
    kind = adapters.ADAPTERS.get(entry.network_kind) if entry.network_kind != entry.kind else None
    return entry.libraries if kind is None else kind.libraries


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

    What the entry names elsewhere is downloaded.

    Raises:
        CheckpointError: The source is not trained yet, or was trained with settings that the study has since changed;
            or a download failed.
    """
    if entry.kind != "study":
        return entry.local()
    file = run.source_folder(entry.name) / FILE_NAME
    card = read_source_card(file)
    training = training_of(run)
    schedule = schedule_for(run, own_entry(run), training).model_dump(mode="json")
    if (card.schedule, card.seed) != (schedule, training.seed) or not _is_own_model(run, entry.dataset, card):
        raise CheckpointError(
            f"{file}: trained with other settings than the study's current ones; run train-sources again"
        )
    return MmsegEntry(name=entry.name, dataset=entry.dataset, config=file, features=entry.features)


def _is_own_model(run: Run, dataset: str, card: SourceCard) -> bool:
    """Return whether a card describes the study's own model, trained on a dataset."""
    expected = target_network(run, dataset)
    if not isinstance(run.study.model, SourceEntry):
        return card.model == expected
    if own_segmentor(run) is not None:
        return card.model == expected and card.initialisation == initialization_key(run)
    # Such a card also describes how to build the network.
    described = {name: card.model.get(name) for name in expected}
    if run.study.model.code() and card.model.get("architecture") != run.study.model.architecture():
        return False  # code that the study does not name
    return described == expected and card.initialisation == initialization_key(run)


def weights_key(run: Run, entry: SourceEntry) -> Key:
    """Return the key of a source's network and weights; raises CheckpointError like `loadable_source`."""
    return run.cached(f"weights of {entry.name}", lambda: loadable_source(run, entry).key(memo=run.memo))


def initialization_key(run: Run) -> str | None:
    """Return the key of the weights that the study's own networks start from; None for random weights."""
    if entry := own_entry(run):
        return _with_features(entry.key(memo=run.memo), entry)
    checkpoint = init_checkpoint_of(run)
    return sha256_of_file(checkpoint, run.memo) if checkpoint else None


def source_start_key(run: Run, entry: SourceEntry) -> Key:
    """Return the key of the network that the fine-tuning of a source starts from.

    A new head may sit on the maps that the source's ``features`` name.

    Raises:
        CheckpointError: See `loadable_source`.
    """
    return _with_features(weights_key(run, entry), entry)


def _with_features(key: Key, entry: SourceEntry) -> Key:
    features = entry.model_dump(mode="json").get("features")
    if features is None:
        return key
    return Key(content_key(source=key, features=features), {**key.parts, "features": str(features)})


def schedule_for(run: Run, entry: SourceEntry | None, training: Training | FineTuning) -> Schedule:
    """Return the schedule of a training; a learning rate of the entry that it starts from replaces the schedule's."""
    schedule = run.cached(f"schedule {training}", lambda: schedule_of(training))
    return schedule.at_rate(entry.learning_rate if entry else None)
