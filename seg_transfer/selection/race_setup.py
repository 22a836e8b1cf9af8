"""Settles a race before it is run: who may race, on which schedule, and how far within the budget."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg_transfer.errors import ConfigError
from seg_transfer.evaluation import Ranking
from seg_transfer.resources import find
from seg_transfer.selection.choice_text import plan_sentences
from seg_transfer.selection.entrants import entrants
from seg_transfer.selection.paces import Family, estimated_paces, families_of
from seg_transfer.selection.race_plan import Pace, Plan, plan_race
from seg_transfer.selection.race_state import RaceState, read_state, write_state
from seg_transfer.selection.source_scores import Request, rank_scored, run_of, write_study
from seg_transfer.selection.venue import Venue
from seg_transfer.store.atomic import write_text
from seg_transfer.store.tables import ranking_file
from seg_transfer.study.definition import FineTuning, schedule_of
from seg_transfer.study.run import Run
from seg_transfer.training.schedule import Schedule

STUDY_FILE = "choose.yaml"
SCHEDULE = "choosing"
MINUTES = 30.0
_FINAL_SHARE = 1 / 3
"""Share of a budget of minutes that one fine-tuning to the end may take; longer schedules are shortened to it."""
_FEWEST_STEPS = 16
_RESERVE = 0.95
"""Share of a budget of minutes that is planned with."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """How a race is to be run.

    Attributes:
        minutes: Wall time that everything may take; None without this limit.
        runs: Number of fine-tunings to the end that race and last fine-tuning may cost; None without this limit.
        schedule: Schedule file, or the name of a shipped one.
        steps: Steps of the whole schedule; None means those of the schedule, shortened to the minutes.
        engine: Where racers run, one of `seg_transfer.engines.ENGINES`.
        lanes: Number of racers that run side by side.
        threads: CPU threads of each process; 0 leaves the default.
        workers: Number of processes that read training images beside each training.
        debug: Also show the traceback of every racer that fails.
    """

    minutes: float | None = MINUTES
    runs: float | None = None
    schedule: str | Path = SCHEDULE
    steps: int | None = None
    engine: str = "here"
    lanes: int = 1
    threads: int = 0
    workers: int = 0
    debug: bool = False


@dataclass(frozen=True)
class Prepared:
    """A race whose field is known.

    Attributes:
        ranking: The ranked sources.
        entrants: Those that may race, the most promising first.
        families: The same, by family of networks.
        venue: Where they run.
        state: What the run folder holds of the race.
    """

    ranking: Ranking
    entrants: tuple[str, ...]
    families: list[Family]
    venue: Venue
    state: RaceState


def prepare(request: Request, wanted: Wanted, folder: Path) -> Prepared:
    """Score all sources, choose the entrants of the race, and settle its schedule."""
    schedule_file = find("schedule", Path(wanted.schedule)).resolve()
    whole = schedule_of(FineTuning(schedule=schedule_file))
    began = time.monotonic()
    ranking = replace(rank_scored(request, folder), run_folder=folder)
    ranking = replace(ranking, seconds=time.monotonic() - began)
    write_text(ranking_file(folder), json.dumps(ranking.as_dict(), indent=1) + "\n")
    field = entrants(ranking)
    families = families_of(ranking, field)
    asked = _asked(request, wanted, whole, field)
    state = read_state(folder, asked)
    run = run_of(request, folder)
    if state is None:
        steps = _steps(_tuned(run, schedule_file, whole, whole.steps, request.seed), families, whole, wanted)
        state = RaceState(asked, steps, {})
        write_state(folder, state)
    run = _tuned(run, schedule_file, whole, state.steps, request.seed)
    write_study(run, folder / STUDY_FILE)
    venue = Venue(run, folder / STUDY_FILE, wanted.engine, wanted.threads, wanted.workers, wanted.debug)
    return Prepared(ranking, field, families, venue, state)


def preview(request: Request, wanted: Wanted, folder: Path) -> tuple[Plan, list[str]]:
    """Return the plan of a race, and sentences about it, without training; estimates take the place of measurements."""
    began = time.monotonic()
    prepared = prepare(request, wanted, folder)
    state = prepared.state
    if state.plan is None:
        paces = estimated_paces(prepared.venue.run, prepared.families)
        state = replace(state, paces=paces, plan=planned(prepared, wanted, paces, time.monotonic() - began))
    assert state.plan is not None
    return state.plan, sentences_of(prepared, state.plan, state)


def sentences_of(prepared: Prepared, plan: Plan, state: RaceState) -> list[str]:
    """Say who will race how far, and how fast."""
    n_folds = len(prepared.venue.run.folds(prepared.venue.target))
    return plan_sentences(plan, [state.paces[name].step for name in plan.racers], n_folds)


def _tuned(run: Run, schedule: Path, whole: Schedule, steps: int, seed: int) -> Run:
    """Return the run with fine-tunings of so many steps, whose warm-up is shortened alike."""
    changes = (
        {} if steps == whole.steps else {"steps": steps, "warmup_steps": whole.warmup_steps * steps // whole.steps}
    )
    tuning = FineTuning(schedule=schedule, changes=changes, seeds=(seed,), scratch=False, keep_weights=True)
    return replace(
        run, study=run.study.model_copy(update={"name": f"choose-{run.study.targets[0]}", "fine_tuning": tuning})
    )


def _asked(request: Request, wanted: Wanted, whole: Schedule, field: Sequence[str]) -> dict[str, Any]:
    return {
        "minutes": wanted.minutes,
        "runs": wanted.runs,
        "steps": wanted.steps,
        "schedule": whole.model_dump(mode="json"),
        "hold_out": request.hold_out and request.hold_out.model_dump(),
        "images": request.target.low_shot.limit,
        "seed": request.seed,
        "entrants": list(field),
    }


def _steps(run: Run, families: Sequence[Family], whole: Schedule, wanted: Wanted) -> int:
    """Return the steps of the schedule: those that were asked for, or those that the minutes allow."""
    if wanted.steps is not None or wanted.minutes is None:
        return wanted.steps or whole.steps
    slowest = max(pace.step for pace in estimated_paces(run, families).values())
    allowed = int(_FINAL_SHARE * 60 * wanted.minutes / slowest) if slowest > 0 else whole.steps
    if allowed >= whole.steps:
        return whole.steps
    if allowed < _FEWEST_STEPS:
        needed = math.ceil(_FEWEST_STEPS * slowest / 60 / _FINAL_SHARE)
        raise ConfigError(
            f"--minutes {wanted.minutes:g}: a step of fine-tuning takes about {slowest:.1f} s here, so that "
            f"{allowed} steps would be left; give at least {needed} minutes, or state --runs or --steps"
        )
    steps = allowed // 8 * 8  # whole shares
    _logger.info(
        "the schedule of %d steps is shortened to %d, since a step takes about %.2f s here; --steps states another "
        "number", whole.steps, steps, slowest,
    )  # fmt: skip
    return steps


def planned(prepared: Prepared, wanted: Wanted, paces: Mapping[str, Pace], elapsed: float) -> Plan:
    """Make the plan; a budget of minutes counts from the start of the command."""
    run, steps = prepared.venue.run, prepared.state.steps
    racers = [name for name in prepared.entrants if name in paces]
    n_folds = len(run.folds(prepared.venue.target))
    try:
        if wanted.runs is not None:
            by_steps = dict.fromkeys(racers, Pace(1 / steps))
            return plan_race(racers, by_steps, steps, wanted.runs, n_folds=n_folds)
        assert wanted.minutes is not None
        budget = _RESERVE * 60 * wanted.minutes - elapsed
        return plan_race(racers, paces, steps, budget, n_folds=n_folds, lanes=wanted.lanes)
    except ConfigError as error:
        unit = f"--runs {wanted.runs:g}" if wanted.runs is not None else f"--minutes {wanted.minutes:g}"
        in_what = "runs" if wanted.runs is not None else "s"
        raise ConfigError(f"{unit}: {error} {in_what}; give more, or shorten the schedule with --steps") from error
