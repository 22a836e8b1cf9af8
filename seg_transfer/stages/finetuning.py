"""Fine-tunes a source of a study on a target, which gives the actual performance that rankings are compared with."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.progress import progress_of
from seg_transfer.stages.base import IsHeld, Item, seed_label
from seg_transfer.stages.starts import start_of
from seg_transfer.stages.training import save_network
from seg_transfer.stages.training_keys import TrainingKeys, is_valid
from seg_transfer.store.content_key import Key
from seg_transfer.store.key_parts import KEY_PARTS, parts_entry, parts_in
from seg_transfer.store.lease import acquire_blocking
from seg_transfer.store.tables import PERFORMANCE, provenance, read_metadata, read_rows, write_rows
from seg_transfer.study.run import Run, fine_tuning_of
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.evaluate import evaluate_on
from seg_transfer.training.fit import arithmetic_here, fit
from seg_transfer.training.iou import SegmentationQuality
from seg_transfer.training.processes import is_main_process
from seg_transfer.training.schedule import Schedule

_logger = logging.getLogger(__name__)


def finetune(
    run: Run, item: Item, origin: Key, schedule: Schedule, keys: TrainingKeys, is_held: IsHeld, n_workers: int
) -> None:
    """Fine-tune one pair, or scratch, with one seed, unless it is finished; an interrupted one resumes.

    Args:
        run: The study.
        item: A source, or ``scratch``, a target and a seed.
        origin: Key of the weights that it starts from, which the scores of the pair have too.
        schedule: How it is trained.
        keys: Keys of the fine-tuning.
        is_held: Whether this process still holds the lease of the item.
        n_workers: Number of processes that read training images.
    """
    assert item.seed is not None
    folder = run.folder / "fine_tuning" / item.source / item.target
    # The names do not depend on the eval split, so that the training survives a fix of that split.
    work_dirs = {name: folder / f"seed_{item.seed}_{weights[:12]}" for name, (weights, _) in keys.items()}
    if _is_finished(run, item, keys):
        _clear(work_dirs.values())
        return
    began = time.monotonic()
    arithmetic = arithmetic_here(schedule)
    key = keys[arithmetic][1]
    start = start_of(run, item)
    crops = TrainingCrops(run.low_shot(item.target), run.manifests[item.target], schedule, item.seed)
    with progress_of(f"fine-tune {seed_label(item)}") as tick:
        fit(start.network, crops, work_dirs[arithmetic], head=start.head(schedule), n_workers=n_workers, progress=tick)
    trained = start.trained()
    quality = evaluate_on(trained, run.records(item.target, "eval"), crops.manifest)
    if not (is_main_process() and is_held()):
        return
    seconds = time.monotonic() - began
    if fine_tuning_of(run).keep_weights:  # written first, because the performance marks this fine-tuning as finished
        tuned_folder = run.fine_tuned_folder(item.source, item.target, item.seed)
        save_network(tuned_folder, start, trained, crops, quality, source=item.source, seconds=seconds, key=key)
    numbers = {"n_train_images": len(crops.records), "steps": schedule.steps, **provenance(seconds, key)}
    _store(run, item, origin, quality, numbers)
    _clear(work_dirs.values())
    _report(item, quality, crops.manifest, seconds)


def _report(item: Item, quality: SegmentationQuality, manifest: DatasetManifest, seconds: float) -> None:
    absent = ", ".join(manifest.classes[index] for index in quality.absent)
    note = f"; absent: {absent}" if absent else ""
    _logger.info("%s: mIoU %.4f (%.0f s%s)", seed_label(item), quality.miou, seconds, note)


def _clear(work_dirs: Iterable[Path]) -> None:
    """Remove the checkpoints of a fine-tuning that is stored, and the empty folders above them."""
    for work_dir in work_dirs:
        shutil.rmtree(work_dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.removedirs(work_dir.parent)


def _is_finished(run: Run, item: Item, keys: TrainingKeys) -> bool:
    return any(is_valid(row["content_key"], keys) for row in _rows(run, item))


def _rows(run: Run, item: Item) -> list[dict[str, Any]]:
    return read_rows(run.performance_file(item.source, item.target), PERFORMANCE)


def _store(run: Run, item: Item, start: Key, quality: SegmentationQuality, numbers: dict[str, Any]) -> None:
    row = {
        "source": item.source,
        "target": item.target,
        "miou": quality.miou,
        "class_iou": list(quality.class_iou),
        "n_eval_images": quality.n_images,
        "seed": item.seed,
        **numbers,
    }
    file = run.performance_file(item.source, item.target)
    origin = run.origin("performance", item.target, start, item.source)
    # Another seed of the pair may finish at the same moment.
    with acquire_blocking(run.leases / "performance" / item.source / item.target):
        stored = read_metadata(file, PERFORMANCE, [*origin, KEY_PARTS])
        # Seeds that are averaged must come from the same settings and weights.
        others = _rows(run, item) if origin.items() <= stored.items() else []
        rows = [row, *(other for other in others if other["seed"] != item.seed)]
        parts = parts_in(stored[KEY_PARTS]) | {str(item.seed): row["content_key"].parts}
        entry = parts_entry({str(kept["seed"]): parts.get(str(kept["seed"]), {}) for kept in rows})
        write_rows(file, PERFORMANCE, sorted(rows, key=lambda kept: int(kept["seed"])), origin | entry)
