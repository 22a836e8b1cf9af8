"""The stage that ends a race: the winner is fine-tuned to the end on all labeled images, and its weights are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seg_transfer.errors import ResultsError
from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work, pair_items, pair_label
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import read_card_or_problem
from seg_transfer.stages.finetune import tuning_keys, tuning_schedule
from seg_transfer.stages.race import valid_rows
from seg_transfer.stages.train import TrainSettings
from seg_transfer.stages.training_keys import TrainingKeys, is_valid, nearest_key
from seg_transfer.store.content_key import content_key
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.study.run import CachedRun, Run, fine_tuning_of, snapshot

if TYPE_CHECKING:
    from typing import Any

    from seg_transfer.stages.probe import Probe
    from seg_transfer.training.iou import SegmentationQuality


class FinishStage(Stage):
    """Writes weights, card and loader of a source into ``fine_tuned/<source>/<target>/<seed>``."""

    name = "finish"
    shard_noun = "fine-tuning"
    settings_type = TrainSettings
    planned = False

    def is_wanted(self, run: Run) -> bool:
        """Whether the study holds images out, and says how sources are fine-tuned."""
        return run.study.hold_out is not None and run.study.fine_tuning is not None

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return every pair once, with the first seed of the study's fine-tunings."""
        seed = fine_tuning_of(run).seeds[0]
        return [Item(pair.source, pair.target, seed) for pair in pair_items(run, sources, targets)]

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return f"{pair_label(item)}, all images"

    def status(self, run: CachedRun, item: Item) -> Status:
        """Check whether card and weights exist and match the study's current settings and the item's race."""
        assert item.seed is not None
        file = run.fine_tuned_folder(item.source, item.target, item.seed) / FILE_NAME
        if not file.exists():
            return Status("missing")
        card, keys = read_source_card(file), finish_keys(run, item)
        if not card.weights_file(file.parent).exists():
            return Status("missing", reasons=("its weights",))
        if is_valid(card.content_key, keys):
            return Status("done", seconds=card.seconds, arithmetic=card.key_parts.get("arithmetic", ""))
        return Status("stale", changes(card.key_parts, nearest_key(keys, card.key_parts), lambda name: name))

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all cards and weights in the folder."""
        for file in sorted((run.folder / "fine_tuned").glob(f"*/*/*/{FILE_NAME}")):
            card = read_card_or_problem(file)
            if isinstance(card, str):
                yield f"{card} (weights of a fine-tuning: delete {file.parent})"

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate the steps of the schedule."""
        network, schedule = probe.source(run.study.source(item.source)), tuning_schedule(run, item)
        return schedule.steps * probe.step(network, item.target, schedule)

    def start(self, run: Run, items: Sequence[Item], settings: TrainSettings) -> Work:
        """Prepare to fine-tune; an interrupted fine-tuning resumes."""
        from seg_transfer.stages.finishing import finish

        def tune(item: Item, is_held: IsHeld) -> None:
            # The images as they are when the training begins, as for their key.
            finish(snapshot(run), item, is_held, settings.workers)

        return tune


def finish_keys(run: Run, item: Item) -> TrainingKeys:
    """Return the keys of a fine-tuning on all labeled images, whose mIoU comes from the source's race."""
    train = run.cached(f"labeled of {item.target}", lambda: run.records_key(item.target, run.labeled(item.target)))
    judged = [row["content_key"] for row in last_rows(run, item)]
    return tuning_keys(run, item, train, content_key(race=judged, steps=last_rows(run, item)[0]["steps"]))


def race_quality(run: Run, item: Item) -> SegmentationQuality:
    """Return what a source reached on held-out images, where its race ended."""
    from seg_transfer.training.iou import quality_of

    rows = last_rows(run, item)
    counts = sum(pixels_of(row).sum(axis=0) for row in rows)
    return quality_of(np.asarray(counts), sum(len(row["image_id"]) for row in rows))


def last_rows(run: Run, item: Item) -> list[dict[str, Any]]:
    """Return the rows of all folds of a source at the last step at which all of them were judged.

    Raises:
        ResultsError: The source has not run.
    """
    folds = [Item(item.source, item.target, item.seed, fold) for fold in range(len(run.folds(item.target)))]
    by_step = [{row["steps"]: row for row in valid_rows(run, fold)} for fold in folds]
    common = set.intersection(*(set(rows) for rows in by_step))
    if not common:
        raise ResultsError(f"{pair_label(item)}: has not been judged on held-out images; run `seg-transfer choose`")
    return [rows[max(common)] for rows in by_step]


def pixels_of(row: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the counts of every image of a racer's row, (n, 3, C), as in `seg_transfer.evaluation.miou_of`."""
    return np.stack([np.array(row[name], np.int64) for name in ("agreed", "labeled", "predicted")], axis=1)


STAGE = FinishStage()
