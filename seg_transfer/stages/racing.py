"""Trains a racer up to a step, and judges it by the images that it has not seen.

A racer follows the schedule of the whole fine-tuning from its first step: the learning rate at a step is the one that
the whole schedule has there. So nothing is trained twice, and racers are compared at equal steps of equal schedules; a
racer that stops early has not been annealed, and would have reached more.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.data.held_out import Fold, image_of
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.errors import DataError
from seg_transfer.evaluation import miou_of
from seg_transfer.models.source_model import SourceModel
from seg_transfer.progress import Tick, progress_of
from seg_transfer.stages.base import IsHeld, Item, pair_label
from seg_transfer.stages.finetune import tuning_schedule
from seg_transfer.stages.race_keys import COUNTS, race_keys, racer_label, row_at, valid_rows
from seg_transfer.stages.starts import Start, start_of
from seg_transfer.store.key_parts import parts_entry
from seg_transfer.store.tables import RACE, provenance, race_file, write_rows
from seg_transfer.study.run import Run
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.evaluate import predicted_pairs
from seg_transfer.training.fit import arithmetic_here, fit, load_weights_at_rest, resume_step
from seg_transfer.training.iou import confusion_counts

_logger = logging.getLogger(__name__)


class Pace:
    """Measures the seconds of a step; the first step of a process, which warms up, counts only if it is alone."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._times = [time.monotonic()]

    def __call__(self, done: int, total: int) -> None:
        """Note that a step has ended."""
        self._times.append(time.monotonic())
        self._tick(done, total)

    @property
    def n_steps(self) -> int:
        """Number of steps so far."""
        return len(self._times) - 1

    @property
    def step_seconds(self) -> float | None:
        """Mean seconds of a step; None without any."""
        if self.n_steps == 0:
            return None
        first = 0 if self.n_steps == 1 else 1
        return (self._times[-1] - self._times[first]) / (self.n_steps - first)


def race(run: Run, item: Item, until: int, is_held: IsHeld, n_workers: int) -> None:
    """Train a racer up to a step and judge it, unless it was judged there; an interrupted training resumes.

    Args:
        run: The study.
        item: A source, a target, a seed and a fold.
        until: The step; 0 for the end of the schedule.
        is_held: Whether this process still holds the lease of the item.
        n_workers: Number of processes that read training images.
    """
    schedule = tuning_schedule(run, item)
    until = until or schedule.steps
    if row_at(run, item, until) is not None:
        return
    began = time.monotonic()
    if resume_step(_work_dir(run, item)) > until:  # an earlier race, with another budget, passed by this step
        shutil.rmtree(_work_dir(run, item))
    with progress_of(f"fine-tune {racer_label(item)}") as tick:
        pace = Pace(tick)
        start = _trained_to(run, item, until, pace, n_workers)
    judged = judge(start.trained(), _fold(run, item), run.manifests[item.target])
    if is_held():
        _store(run, item, until, pace, judged, time.monotonic() - began)
        miou = float(miou_of(np.sum(list(judged.values()), axis=0)))
        _logger.info("%s: mIoU %.4f after %d of %d steps", racer_label(item), miou, until, schedule.steps)


def racer_at_rest(run: Run, item: Item) -> SourceModel | None:
    """Return the network of a racer as it stopped last; None if its checkpoint is gone."""
    furthest = max(work_dirs(run, item).values(), key=resume_step)
    if resume_step(furthest) == 0:
        return None
    start = start_of(run, item)
    load_weights_at_rest(start.network, furthest)
    return start.trained()


def work_dirs(run: Run, item: Item) -> dict[str, Path]:
    """Return the folders of a racer's checkpoint by arithmetic, which depends on the machine that trains it."""
    folder = run.folder / "race" / item.source / item.target
    return {name: folder / f"{item.fold}_{weights[:12]}" for name, (weights, _) in race_keys(run, item).items()}


def _work_dir(run: Run, item: Item) -> Path:
    return work_dirs(run, item)[arithmetic_here(tuning_schedule(run, item))]


def judge(network: SourceModel, fold: Fold, manifest: DatasetManifest) -> dict[str, npt.NDArray[np.int64]]:
    """Count the pixels of every held-out image.

    Args:
        network: The network.
        fold: The division of the images.
        manifest: Their dataset.

    Returns:
        Image -> counts (3, C) as in `seg_transfer.evaluation.miou_of`; tiles of an image count as one image, under the
        id of the first.

    Raises:
        DataError: No pixel of these images has a label, or a file is unreadable.
        ComputationError: The network returns scores that are not finite.
    """
    counts: dict[Any, npt.NDArray[np.int64]] = {}
    names = {image_of(record): record.image_id for record in reversed(fold.held_out)}
    pairs = predicted_pairs(network, fold.held_out, manifest)
    for record, (_, label, predicted) in zip(fold.held_out, pairs, strict=True):
        confusion = confusion_counts(label, predicted, network.n_classes, manifest.ignore_index)
        of_record = np.stack([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])
        name = names[image_of(record)]
        counts[name] = counts.get(name, 0) + of_record
    if not any(of_image[1].any() for of_image in counts.values()):
        raise DataError(f"{manifest.name}: no pixel of the held-out images has a label; hold out more, or other ones")
    return counts


def _trained_to(run: Run, item: Item, until: int, pace: Pace, n_workers: int) -> Start:
    assert item.seed is not None
    schedule, start = tuning_schedule(run, item), start_of(run, item)
    crops = TrainingCrops(list(_fold(run, item).train), run.manifests[item.target], schedule, item.seed)
    head, folder = start.head(schedule), _work_dir(run, item)
    fit(start.network, crops, folder, head=head, until=until, n_workers=n_workers, progress=pace)
    return start


def _fold(run: Run, item: Item) -> Fold:
    assert item.fold is not None
    return run.folds(item.target)[item.fold]


def _store(
    run: Run, item: Item, steps: int, pace: Pace, judged: dict[str, npt.NDArray[np.int64]], seconds: float
) -> None:
    assert item.fold is not None
    key = race_keys(run, item)[arithmetic_here(tuning_schedule(run, item))][1]
    counts = np.stack(list(judged.values()))
    kept = [row for row in valid_rows(run, item) if row["content_key"] == key]
    row = {
        "source": item.source,
        "target": item.target,
        "fold": item.fold,
        "seed": item.seed,
        "steps": steps,
        "miou": float(miou_of(counts.sum(axis=0))),
        "n_train_images": len(_fold(run, item).train),
        "image_id": list(judged),
        **{name: counts[:, index].tolist() for index, name in enumerate(COUNTS)},
        "step_seconds": pace.step_seconds,
        "trained_steps": pace.n_steps,
        **provenance(seconds, key),
    }
    file = race_file(run.folder, item.source, item.target, item.fold)
    rows = sorted([*kept, row], key=lambda one: int(one["steps"]))
    write_rows(file, RACE, rows, parts_entry({pair_label(item): key.parts}))
