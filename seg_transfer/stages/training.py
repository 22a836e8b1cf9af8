"""Trains a source of a study, and saves trained networks in the run folder."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from seg_transfer import __version__
from seg_transfer.data.label_ids import label_ids
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.source_model import SourceModel
from seg_transfer.prediction.take_home import model_description, network_input, write_loader
from seg_transfer.progress import progress_of
from seg_transfer.stages.base import IsHeld
from seg_transfer.stages.starts import Start, own_start
from seg_transfer.stages.training_keys import TrainingKeys, is_current
from seg_transfer.store.content_key import Key, sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card, write_source_card
from seg_transfer.store.tables import now_utc
from seg_transfer.study.networks import own_entry, schedule_for
from seg_transfer.study.run import Run, training_of
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.evaluate import evaluate_on
from seg_transfer.training.fit import arithmetic_here, fit
from seg_transfer.training.iou import SegmentationQuality
from seg_transfer.training.processes import is_main_process

_WEIGHTS = "weights.safetensors"
_logger = logging.getLogger(__name__)


def train_source(run: Run, entry: SourceEntry, keys: TrainingKeys, is_held: IsHeld, n_workers: int) -> None:
    """Train one source, unless it is finished, and save its weights and ``source.json`` in the run folder.

    An interrupted training resumes. `is_held` says whether this process still holds the lease of the source.
    """
    folder = run.source_folder(entry.name)
    # The names do not depend on the eval split, so that the training survives a fix of that split.
    work_dirs = {name: folder / f"training_{weights[:12]}" for name, (weights, _) in keys.items()}
    if is_trained(folder, keys):
        _remove(work_dirs.values())  # left by a process that ended before it removed them
        return
    began = time.monotonic()
    training = training_of(run)
    schedule = schedule_for(run, own_entry(run), training)
    arithmetic = arithmetic_here(schedule)
    start = own_start(run, entry.dataset, training.seed)
    records, manifest = run.records(entry.dataset, "source_train"), run.manifests[entry.dataset]
    crops = TrainingCrops(records, manifest, schedule, training.seed)
    with progress_of(f"train {entry.name}") as tick:
        fit(start.network, crops, work_dirs[arithmetic], head=start.head(schedule), n_workers=n_workers, progress=tick)
    trained = start.trained()
    quality = evaluate_on(trained, run.records(entry.dataset, "eval"), manifest)
    if not (is_main_process() and is_held()):
        return
    seconds, key = time.monotonic() - began, keys[arithmetic][1]
    save_network(folder, start, trained, crops, quality, source=entry.name, seconds=seconds, key=key)
    _remove(work_dirs.values())
    seconds = time.monotonic() - began
    _logger.info("source %s: mIoU %.4f on its own eval split (%.0f s)", entry.name, quality.miou, seconds)


def is_trained(folder: Path, keys: TrainingKeys) -> bool:
    """Whether a folder holds the weights of a finished training with one of these keys, and their card."""
    if not ((folder / FILE_NAME).exists() and (folder / _WEIGHTS).exists()):
        return False
    return is_current(read_source_card(folder / FILE_NAME), keys)


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def save_network(
    folder: Path,
    start: Start,
    trained: SourceModel,
    crops: TrainingCrops,
    quality: SegmentationQuality,
    *,
    source: str,
    seconds: float,
    key: Key,
) -> None:
    """Save the weights of a trained network, the source card that describes it, and the code that loads both.

    Args:
        folder: Folder of the files.
        start, trained, crops: What the training started from, what it became, and the images it was trained on.
        quality, source, seconds: What it reaches, its name, and the wall time of the training.
        key: Key of everything that decides weights and quality.
    """
    # The old card must never describe the new weights, not even for a moment.
    (folder / FILE_NAME).unlink(missing_ok=True)
    save_weights(trained.network.state_dict(), folder / _WEIGHTS)
    write_loader(folder)
    classes = crops.manifest.classes
    card = SourceCard(
        source=source,
        dataset=crops.manifest.name,
        classes=classes,
        config=start.config,
        model=model_description(start.model, trained.network),
        weights=_WEIGHTS,
        sha256=sha256_of_file(folder / _WEIGHTS),
        initialisation=start.initialization,
        seed=crops.seed,
        steps=crops.schedule.steps,
        schedule=crops.schedule.model_dump(mode="json"),
        n_train_images=len(crops.records),
        miou=quality.miou,
        class_iou=quality.class_iou,
        absent_classes=tuple(classes[index] for index in quality.absent),
        n_eval_images=quality.n_images,
        seconds=seconds,
        content_key=key,
        key_parts=key.parts,
        seg_transfer_version=__version__,
        created_utc=now_utc(),
        labels=label_ids(crops.manifest, crops.records),
        input=network_input(trained, crops.manifest),
    )
    write_source_card(card, folder)
