"""What a racer reached: its content keys, its rows in the run folder, and the keys of what follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ResultsError
from seg_transfer.stages.base import Item, pair_label
from seg_transfer.stages.finetune import tuning_keys
from seg_transfer.stages.training_keys import TrainingKeys, is_valid
from seg_transfer.store.content_key import content_key
from seg_transfer.store.tables import RACE, race_file, read_rows
from seg_transfer.study.run import Run

COUNTS = ("agreed", "labeled", "predicted")
"""Columns with the pixels of every class of every held-out image."""


def racer_label(item: Item) -> str:
    """Return the name of a racer in messages."""
    return f"{pair_label(item)}, fold {item.fold}"


def whole_label(item: Item) -> str:
    """Return the name of a fine-tuning on all labeled images in messages."""
    return f"{pair_label(item)}, all images"


def race_keys(run: Run, item: Item) -> TrainingKeys:
    """Return the keys of a racer, one for each arithmetic that its schedule allows."""
    assert item.fold is not None
    fold, name = run.folds(item.target)[item.fold], f"{item.target}, fold {item.fold}"
    train = run.cached(f"train of {name}", lambda: run.records_key(item.target, fold.train))
    held_out = run.cached(f"held out of {name}", lambda: run.records_key(item.target, fold.held_out))
    return tuning_keys(run, item, train, held_out)


def valid_rows(run: Run, item: Item) -> list[dict[str, Any]]:
    """Return the rows of a racer that the study's current settings give, in the order of their steps."""
    assert item.fold is not None
    keys = race_keys(run, item)
    rows = read_rows(race_file(run.folder, item.source, item.target, item.fold), RACE)
    return [row for row in rows if is_valid(row["content_key"], keys)]


def row_at(run: Run, item: Item, steps: int) -> dict[str, Any] | None:
    """Return the row of a racer that was judged after so many steps; None if there is none."""
    return next((row for row in valid_rows(run, item) if row["steps"] == steps), None)


def rows_by_step(run: Run, item: Item) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of all folds of a source, by the steps at which all of them were judged, in order.

    Args:
        run: The study.
        item: A source, a target and a seed; the fold does not matter.
    """
    folds = [Item(item.source, item.target, item.seed, fold) for fold in range(len(run.folds(item.target)))]
    by_step = [{row["steps"]: row for row in valid_rows(run, fold)} for fold in folds]
    common = sorted(set.intersection(*(set(rows) for rows in by_step)))
    return {steps: [rows[steps] for rows in by_step] for steps in common}


def last_rows(run: Run, item: Item) -> list[dict[str, Any]]:
    """Return the rows of all folds of a source where its race ended; raises ResultsError if it has not run."""
    by_step = rows_by_step(run, item)
    if not by_step:
        raise ResultsError(f"{pair_label(item)}: has not been judged on held-out images; run `seg-transfer choose`")
    return by_step[max(by_step)]


def finish_keys(run: Run, item: Item) -> TrainingKeys:
    """Return the keys of a fine-tuning on all labeled images, whose mIoU comes from the source's race."""
    train = run.cached(f"labeled of {item.target}", lambda: run.records_key(item.target, run.labeled(item.target)))
    judged = last_rows(run, item)
    race = content_key(race=[row["content_key"] for row in judged], steps=judged[0]["steps"])
    return tuning_keys(run, item, train, race)


def pixels_of(row: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Return the counts of every image of a racer's row, (n, 3, C), as in `seg_transfer.evaluation.miou_of`."""
    return np.stack([np.array(row[name], np.int64) for name in COUNTS], axis=1)
