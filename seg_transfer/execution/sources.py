"""The sources of a study: training the missing ones, and finding the trained ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from seg_transfer import __version__
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.execution.claims import Held, for_each_claimed
from seg_transfer.execution.progress import progress_of
from seg_transfer.execution.run import WHOLE, Run, Say, Shard, chosen, share
from seg_transfer.execution.study import SourceEntry, Training, schedule_of
from seg_transfer.models.checkpoints import load_checkpoint, save_weights
from seg_transfer.models.networks import (
    ModelConfig,
    build_network,
    load_backbone,
    read_model_config,
    with_classes,
    with_normalisation,
)
from seg_transfer.models.source_model import as_source_model, resolve
from seg_transfer.store.content_key import content_key, manifest_key, sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card, write_source_card
from seg_transfer.store.tables import now_utc
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.evaluate import evaluate_on
from seg_transfer.training.fit import fit
from seg_transfer.training.iou import SegmentationQuality
from seg_transfer.training.processes import in_main_process

_WEIGHTS = "weights.safetensors"


def train_sources(
    run: Run, *, only: Sequence[str] = (), shard: Shard = WHOLE, n_workers: int = 0, say: Say = print
) -> None:
    """Train every source that the study trains and that is missing or was trained with other settings.

    Each leaves its weights and its ``source.json`` in the run folder. A killed training resumes. A shard is every n-th
    source.

    Raises:
        ConfigError: The study lacks a model or a schedule.
        IncompleteError: Some sources failed; the reasons were said.
    """
    for_each_claimed(
        share(_trained_by_study(run, only), shard),
        lambda entry, held: _train_source(run, entry, held, n_workers, say),
        lambda entry: f"source {entry.name}",
        lambda entry: run.lease("sources", entry.name),
    )


def target_network(run: Run, dataset: str) -> ModelConfig:
    """The study's network with a classifier for a dataset and images normalised by its manifest."""
    if run.study.model is None:
        raise ConfigError(
            f"study {run.study.name}: field model is missing; name the network to train, or train none: "
            "every source with a checkpoint, and fine_tuning.scratch: false"
        )
    manifest = run.manifests[dataset]
    return with_normalisation(
        with_classes(read_model_config(run.study.model), len(manifest.classes)), manifest.mean, manifest.std
    )


def source_network(run: Run, entry: SourceEntry) -> ModelConfig:
    """The network of a source, trained or not."""
    if entry.config is None:
        return target_network(run, entry.dataset)
    return resolve(entry.config, entry.checkpoint)[0]


def common_initialisation(run: Run, network: nn.Module) -> str:
    """Put the study's ImageNet weights into a backbone, where it names some; says what the network starts from."""
    checkpoint = init_checkpoint_of(run)
    if checkpoint is None:
        return "random"
    load_backbone(network, load_checkpoint(checkpoint), str(checkpoint))
    return sha256_of_file(checkpoint)


def init_checkpoint_of(run: Run) -> Path | None:
    """The ImageNet weights that the study's own networks start from; None for random ones."""
    checkpoint = run.study.source_training.init_checkpoint if run.study.source_training else None
    if checkpoint is not None and not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: no such file; correct source_training.init_checkpoint in the study")
    return checkpoint


def training_of(run: Run) -> Training:
    """How the study trains sources; raises ConfigError when it does not say."""
    if run.study.source_training is None:
        raise ConfigError(f"study {run.study.name}: field source_training is missing; name a schedule")
    return run.study.source_training


def source_config(run: Run, entry: SourceEntry) -> tuple[Path, Path | None]:
    """Config and checkpoint of a source as `load_source_model` takes them.

    Raises CheckpointError for a source that is not trained yet, or was trained with settings the study has changed.
    """
    if entry.config is not None:
        return entry.config, entry.checkpoint
    file = run.source_folder(entry.name) / FILE_NAME
    card = read_source_card(file)
    training = training_of(run)
    schedule = schedule_of(training).model_dump(mode="json")
    if (card.schedule, card.seed, card.model) != (schedule, training.seed, target_network(run, entry.dataset)):
        raise CheckpointError(f"{file}: trained with other settings than the study has now; run train-sources again")
    return file, None


def missing_sources(run: Run, *, only: Sequence[str] = ()) -> list[str]:
    """Names of the sources that the study trains and that are missing or were trained with other settings."""
    return [entry.name for entry in _trained_by_study(run, only) if not _is_trained(run, entry, _keys(run, entry)[1])]


def _trained_by_study(run: Run, only: Sequence[str]) -> list[SourceEntry]:
    names = chosen([source.name for source in run.study.sources], only, "source")
    return [entry for entry in map(run.study.source, names) if entry.config is None]


def _is_trained(run: Run, entry: SourceEntry, key: str) -> bool:
    folder = run.source_folder(entry.name)
    if not ((folder / FILE_NAME).exists() and (folder / _WEIGHTS).exists()):
        return False
    return read_source_card(folder / FILE_NAME).content_key == key


def _keys(run: Run, entry: SourceEntry) -> tuple[str, str]:
    """Key of all that decides a source's weights, and of all that decides its weights and its mIoU."""
    training, initialisation = training_of(run), init_checkpoint_of(run)
    parts: dict[str, object] = {
        "model": target_network(run, entry.dataset),
        "schedule": schedule_of(training).model_dump(mode="json"),
        "seed": training.seed,
        "initialisation": initialisation and sha256_of_file(initialisation),
        "manifest": manifest_key(run.manifests[entry.dataset]),
        "train": run.records_key(entry.dataset, run.records(entry.dataset, "source_train")),
    }
    eval_key = run.records_key(entry.dataset, run.records(entry.dataset, "eval"))
    return content_key(**parts), content_key(**parts, eval=eval_key)


def _train_source(run: Run, entry: SourceEntry, held: Held, n_workers: int, say: Say) -> None:
    training_key, key = _keys(run, entry)
    folder = run.source_folder(entry.name)
    # Without the eval split: when that must be mended, the training is not lost.
    work_dir = folder / f"training_{training_key[:12]}"
    if _is_trained(run, entry, key):
        shutil.rmtree(work_dir, ignore_errors=True)  # of a process that ended between the last two lines below
        return
    began = time.monotonic()
    training, model = training_of(run), target_network(run, entry.dataset)
    network = build_network(model, seed=training.seed)
    initialisation = common_initialisation(run, network)
    crops = TrainingCrops(
        run.records(entry.dataset, "source_train"), run.manifests[entry.dataset], schedule_of(training), training.seed
    )
    with progress_of(f"train {entry.name}") as tick:
        fit(network, crops, work_dir, n_workers=n_workers, progress=tick)

    def keep() -> None:
        if not held():
            return
        # The old card must not describe the new weights, not even for a moment.
        (folder / FILE_NAME).unlink(missing_ok=True)
        save_weights(network.state_dict(), folder / _WEIGHTS)
        found = evaluate_on(as_source_model(network, model), run.records(entry.dataset, "eval"), crops.manifest)
        seconds = time.monotonic() - began
        write_source_card(_card(run, entry, crops, model, initialisation, found, seconds, key), folder)
        shutil.rmtree(work_dir, ignore_errors=True)
        say(f"source {entry.name}: mIoU {found.miou:.4f} on its own eval split ({seconds:.0f} s)")

    in_main_process(keep)


def _card(
    run: Run,
    entry: SourceEntry,
    crops: TrainingCrops,
    model: ModelConfig,
    initialisation: str,
    found: SegmentationQuality,
    seconds: float,
    key: str,
) -> SourceCard:
    classes = crops.manifest.classes
    return SourceCard(
        source=entry.name,
        dataset=entry.dataset,
        classes=classes,
        config=run.study.model.name if run.study.model else "",
        model=model,
        weights=_WEIGHTS,
        sha256=sha256_of_file(run.source_folder(entry.name) / _WEIGHTS),
        initialisation=initialisation,
        seed=crops.seed,
        steps=crops.schedule.steps,
        schedule=crops.schedule.model_dump(mode="json"),
        n_train_images=len(crops.records),
        miou=found.miou,
        class_iou=found.class_iou,
        absent_classes=tuple(classes[index] for index in found.absent),
        n_eval_images=found.n_images,
        seconds=seconds,
        content_key=key,
        seg_transfer_version=__version__,
        created_utc=now_utc(),
    )
