"""What the racers of a target have reached, read from the run folder, and who goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from seg_transfer.evaluation import miou_of
from seg_transfer.selection.race_plan import Plan, run_plan
from seg_transfer.stages.base import Item
from seg_transfer.stages.race_keys import pixels_of, rows_by_step
from seg_transfer.study.run import Run, fine_tuning_of, snapshot


@dataclass(frozen=True, eq=False)
class Judgment:
    """What a source reached after some steps, on the held-out images of all folds.

    Attributes:
        source: Name of the source.
        steps: Steps of its fine-tuning on every fold.
        images: Names of the held-out images.
        counts: Their pixels, (n, 3, C), as in `seg_transfer.evaluation.miou_of`.
        seconds: Wall time since the judgment before, over all folds.
    """

    source: str
    steps: int
    images: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    seconds: float

    @cached_property
    def miou(self) -> float:
        """Mean IoU of all images together, a fraction in [0, 1]."""
        return float(miou_of(self.counts.sum(axis=0)))


def fold_items(run: Run, source: str) -> list[Item]:
    """Return the items of a source that races for the only target of a run: one per fold."""
    (target,), seed = run.study.targets, fine_tuning_of(run).seeds[0]
    return [Item(source, target, seed, fold) for fold in range(len(run.folds(target)))]


def judgments(run: Run, source: str) -> list[Judgment]:
    """Return what a source reached at every step at which all of its folds were judged, in order."""
    return [
        Judgment(
            source,
            steps,
            tuple(image for row in rows for image in row["image_id"]),
            np.concatenate([pixels_of(row) for row in rows]),
            sum(row["seconds"] for row in rows),
        )
        for steps, rows in rows_by_step(run, fold_items(run, source)[0]).items()
    ]


def judgment_at(run: Run, source: str, steps: int) -> Judgment | None:
    """Return what a source reached after so many steps; None if it was not judged there."""
    return next((one for one in judgments(run, source) if one.steps == steps), None)


def run_rungs(run: Run, plan: Plan, train: Callable[[Sequence[str], int], None]) -> list[list[Judgment]]:
    """Run a race, as `seg_transfer.selection.race_plan.run_plan` does, with the judgments of a run folder.

    Args:
        run: The study.
        plan: The race.
        train: Trains sources up to a step, where it is missing.

    Returns:
        The judgments of every rung, the best first. Rungs after the last racer has left are empty.
    """
    judged: dict[tuple[str, int], Judgment] = {}

    def judge(racers: Sequence[str], steps: int) -> dict[str, float]:
        train(racers, steps)
        inspected = snapshot(run)
        found = [one for source in racers if (one := judgment_at(inspected, source, steps)) is not None]
        judged.update({(one.source, steps): one for one in found})
        return {one.source: one.miou for one in found}

    orders = run_plan(plan, judge)
    return [[judged[name, rung.steps] for name in order] for rung, order in zip(plan.rungs, orders, strict=True)]
