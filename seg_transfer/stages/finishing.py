"""Fine-tunes the winner of a race to the end, on all labeled images."""

from __future__ import annotations

import logging
import shutil
import time

import numpy as np

from seg_transfer.progress import progress_of
from seg_transfer.stages.base import IsHeld, Item
from seg_transfer.stages.finetune import tuning_schedule
from seg_transfer.stages.race_keys import finish_keys, last_rows, pixels_of, whole_label
from seg_transfer.stages.starts import start_of
from seg_transfer.stages.training import is_trained, save_network
from seg_transfer.study.run import CachedRun
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.fit import arithmetic_here, fit
from seg_transfer.training.iou import SegmentationQuality, quality_of

_logger = logging.getLogger(__name__)


def finish(run: CachedRun, item: Item, is_held: IsHeld, n_workers: int) -> None:
    """Fine-tune a source on all labeled images, unless it is finished; an interrupted training resumes.

    The mIoU in its card is what the source reached in its race, on images that it had not seen there: none are left
    to judge this network by.

    Args:
        run: The study.
        item: A source, a target and a seed.
        is_held: Whether this process still holds the lease of the item.
        n_workers: Number of processes that read training images.
    """
    assert item.seed is not None
    schedule, keys = tuning_schedule(run, item), finish_keys(run, item)
    arithmetic = arithmetic_here(schedule)
    work_dir = run.folder / "race" / item.source / item.target / f"whole_{keys[arithmetic][0][:12]}"
    folder = run.fine_tuned_folder(item.source, item.target, item.seed)
    if is_trained(folder, keys):
        shutil.rmtree(work_dir, ignore_errors=True)
        return
    began = time.monotonic()
    start = start_of(run, item)
    crops = TrainingCrops(run.labeled(item.target), run.manifests[item.target], schedule, item.seed)
    with progress_of(f"fine-tune {whole_label(item)}") as tick:
        fit(start.network, crops, work_dir, head=start.head(schedule), n_workers=n_workers, progress=tick)
    if not is_held():
        return
    seconds, key = time.monotonic() - began, keys[arithmetic][1]
    save_network(
        folder, start, start.trained(), crops, _quality_in_race(run, item), source=item.source, seconds=seconds, key=key
    )
    shutil.rmtree(work_dir, ignore_errors=True)
    _logger.info("%s: fine-tuned for %d steps (%.0f s)", whole_label(item), schedule.steps, seconds)


def _quality_in_race(run: CachedRun, item: Item) -> SegmentationQuality:
    """Return what a source reached on held-out images, where its race ended."""
    rows = last_rows(run, item)
    counts = np.concatenate([pixels_of(row) for row in rows]).sum(axis=0)
    return quality_of(counts, sum(len(row["image_id"]) for row in rows))
