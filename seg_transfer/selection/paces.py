"""How fast racers are: estimated from forward passes before anything is trained, then measured on first steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from seg_transfer.evaluation import Ranking
from seg_transfer.selection.race_plan import FIRST_SHARES, PACE_SHARE, Pace
from seg_transfer.selection.standings import fold_items, judgment_at
from seg_transfer.selection.venue import Venue
from seg_transfer.stages.base import Item
from seg_transfer.stages.finetune import tuning_schedule
from seg_transfer.stages.probe import Probe
from seg_transfer.stages.race_keys import row_at
from seg_transfer.study.run import Run, fine_tuning_of, snapshot
from seg_transfer.training.fit import get_device

Family = tuple[str, ...]


def families_of(ranking: Ranking, entrants: Sequence[str]) -> list[Family]:
    """Group the sources of a race by families of networks, which are about equally fast; keeps their order."""
    groups = [set(family.table["source"]) for family in ranking.families]
    members = [tuple(name for name in entrants if name in group) for group in groups]
    return [family for family in members if family]


def estimated_paces(run: Run, families: Sequence[Family]) -> dict[str, Pace]:
    """Estimate how fast racers are from timed forward passes of the first network of every family."""
    inspected = snapshot(run)  # the dataset is listed once
    probe, folds = Probe(inspected, get_device()), inspected.folds(run.study.targets[0])
    target, paces = run.study.targets[0], dict[str, Pace]()
    seed, held_out = fine_tuning_of(run).seeds[0], [record for fold in folds for record in fold.held_out]
    for family in families:
        network = probe.source(run.study.source(family[0]))
        schedule = tuning_schedule(inspected, Item(family[0], target, seed))
        judging = probe.images(network, target, held_out) / len(folds)
        paces |= dict.fromkeys(family, Pace(probe.step(network, target, schedule), judging))
    return paces


def measured_paces(venue: Venue, families: Sequence[Family], steps: int) -> dict[str, Pace]:
    """Measure how fast racers are on the first steps of the first racer of every family, which goes on from there.

    A racer that fails leaves the race, and the next of its family is measured.

    Args:
        venue: Where they run.
        families: The racers by family.
        steps: Steps of the whole schedule.

    Returns:
        Source -> its pace, without those that failed.
    """
    # Never beyond the earliest rung, which would then have to begin again.
    first_steps = min(max(2, math.ceil(PACE_SHARE * steps)), math.ceil(FIRST_SHARES[-1] * steps))
    paces = dict[str, Pace]()
    for family in families:
        left = list(family)
        while left:
            venue.train(left[:1], first_steps)
            inspected = snapshot(venue.run)
            if judgment_at(inspected, left[0], first_steps):
                paces |= dict.fromkeys(left, _pace_of(inspected, left[0], first_steps))
                break
            del left[0]
    return paces


def _pace_of(run: Run, source: str, steps: int) -> Pace:
    """Return how fast a racer was on the way to a step at which all its folds were judged."""
    rows = [row_at(run, item, steps) for item in fold_items(run, source)]
    timed = [row for row in rows if row is not None and row["step_seconds"] is not None]
    if not timed:  # it was killed after its last step, and only judged by the process that went on
        return estimated_paces(run, [(source,)])[source]
    step = fmean(row["step_seconds"] for row in timed)
    return Pace(step, fmean(max(0.0, row["seconds"] - row["trained_steps"] * row["step_seconds"]) for row in timed))


def mean_pace(paces: Mapping[str, Pace]) -> Pace:
    """Return the mean of paces, for sources whose pace is unknown."""
    return Pace(fmean(pace.step for pace in paces.values()), fmean(pace.rung for pace in paces.values()))
