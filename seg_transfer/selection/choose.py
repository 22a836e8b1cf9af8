"""Chooses a source for one target and fine-tunes it: scores leave out the losers, a race decides among the rest.

The run folder holds the scores, the study of the race (``choose.yaml``), its plan (``race.json``), what every racer
reached (``race/``), the answer (``choice.json`` and ``choice/``), and the fine-tuned winner (``fine_tuned/``). A killed
command goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seg_transfer.errors import ConfigError, IncompleteError
from seg_transfer.models.devices import chosen_device
from seg_transfer.reports.content import Fact
from seg_transfer.reports.race_page import RaceReport, write_race_page
from seg_transfer.selection.choice import Choice, choice_of
from seg_transfer.selection.choice_text import choice_facts
from seg_transfer.selection.paces import measured_paces
from seg_transfer.selection.panels import colors_of, panels_of
from seg_transfer.selection.race_setup import (
    MINUTES,
    SCHEDULE,
    Wanted,
    planned,
    prepare,
    sentences_of,
)
from seg_transfer.selection.race_state import write_state
from seg_transfer.selection.rank import request_of
from seg_transfer.selection.source_scores import Request
from seg_transfer.selection.standings import Judgment, fold_items, run_rungs
from seg_transfer.selection.target import Target
from seg_transfer.selection.venue import Venue
from seg_transfer.stages.racing import work_dirs
from seg_transfer.store.atomic import write_text
from seg_transfer.study.bank import SourceSpec
from seg_transfer.study.definition import HoldOut
from seg_transfer.study.run import Run, snapshot


def choose_source(
    target: Target,
    sources: Sequence[SourceSpec] | SourceSpec,
    *,
    minutes: float | None = None,
    runs: float | None = None,
    hold_out: float = 0.2,
    schedule: str | Path = SCHEDULE,
    steps: int | None = None,
    metric: str = "rank_mean",
    images: int | None = None,
    seed: int = 0,
    data_root: str | Path = ".",
    run_folder: str | Path | None = None,
    device: str = "auto",
    engine: str = "here",
) -> Choice:
    """Choose a source for a target, and fine-tune it.

    All sources are scored. Those that may be the best race: each is fine-tuned for a part of the schedule, judged on
    held-out images, and the better half goes on. The winner is then fine-tuned to the end on all labeled images.

    Args:
        target, sources, metric, images, data_root, device: As in `seg_transfer.rank_sources`.
        minutes: Wall time that everything may take; 30 if `runs` is not given either.
        runs: Instead of minutes: the number of fine-tunings to the end that race and last fine-tuning may cost.
        hold_out: Share of the images that judge, in (0, 1). With fewer than 30, each half judges the other's networks.
        schedule: Schedule file, or the name of a shipped one.
        steps: Steps of the whole schedule; by default its own, fewer where that takes more than a third of the minutes.
        seed: Seed of the pixel sample, the held-out images and the fine-tunings.
        run_folder: Folder of all results, where a second call goes on; ``runs/choose-TARGET`` by default.
        engine: Where racers run: "here", "local" (one process per GPU) or "ray".

    Returns:
        The choice: the winner, its mIoU on held-out images, the race, its cost, and the folder of the network.

    Raises:
        ConfigError: As in `rank_sources`; or the budget allows no race, or minutes and runs are both given.
        DataError: As in `rank_sources`; or there are fewer than two labeled images.
        IncompleteError: No source could be scored, all racers failed, or the last fine-tuning failed.

    Example:
        >>> choose_source("my_dataset.yaml", "models/", minutes=5, runs=3)
        Traceback (most recent call last):
        seg_transfer.errors.ConfigError: minutes and runs are two budgets; give one of them
    """
    budget = budget_of(minutes, runs)
    request = request_to_choose(target, sources, metric, images, Path(data_root), device, seed, hold_out)
    wanted = Wanted(*budget, schedule, steps, engine)
    return choose(request, wanted, Path(run_folder or Path("runs") / f"choose-{request.target.name}"))


def request_to_choose(
    target: Target,
    sources: Sequence[SourceSpec] | SourceSpec,
    metric: str,
    images: int | None,
    data_root: Path,
    device: str,
    seed: int,
    hold_out: float,
) -> Request:
    """Return the request to rank sources by the images that are not held out; see `choose_source`."""
    if not 0 < hold_out < 1:
        raise ConfigError(f"hold_out: {hold_out}: must be a share between 0 and 1, without both")
    request = request_of(target, sources, metric, images, data_root)
    held_out = HoldOut(share=hold_out, seed=seed)
    return replace(request, seed=seed, device=chosen_device(device), hold_out=held_out)


def budget_of(minutes: float | None, runs: float | None) -> tuple[float | None, float | None]:
    """Return the budget in minutes or in runs; 30 minutes if neither is given, ConfigError if both are."""
    if minutes is not None and runs is not None:
        raise ConfigError("minutes and runs are two budgets; give one of them")
    for name, value in (("minutes", minutes), ("runs", runs)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{name}: {value}: must be a number above 0")
    return (MINUTES, None) if minutes is None and runs is None else (minutes, runs)


def choose(
    request: Request, wanted: Wanted, folder: Path, say: Callable[[list[str]], None] = lambda _sentences: None
) -> Choice:
    """Choose a source and fine-tune it; see `choose_source`. `say` is called before the race, with its plan."""
    began = time.monotonic()
    prepared = prepare(request, wanted, folder)
    venue, state = prepared.venue, prepared.state
    if state.plan is None:
        paces = measured_paces(venue, prepared.families, state.steps)
        if not paces:
            raise _nobody(venue)
        state = replace(state, paces=paces, plan=planned(prepared, wanted, paces, time.monotonic() - began))
        write_state(folder, state)
    assert state.plan is not None
    say(sentences_of(prepared, state.plan, state))
    rungs = run_rungs(venue.run, state.plan, venue.train)
    if not rungs[-1]:
        raise _nobody(venue)
    venue.finish(rungs[-1][0].source)
    choice = choice_of(venue, prepared.ranking, prepared.entrants, state, rungs)
    write_race_page(_report(choice, snapshot(venue.run), rungs[-1][0]), choice.page.parent)
    write_text(folder / "choice.json", json.dumps(choice.as_dict(), indent=1) + "\n")
    _remove_checkpoints(snapshot(venue.run), prepared.entrants)
    return choice


def _report(choice: Choice, run: Run, winner: Judgment) -> RaceReport:
    panels = panels_of(run, winner, choice.page.parent / "images")
    facts = [Fact(question, tuple(said)) for question, said in choice_facts(choice).items()]
    steps = choice.measured["of_steps"]
    return RaceReport(choice.target, choice.best, facts, choice.race, choice.curves, steps, panels, colors_of(run))


def _remove_checkpoints(run: Run, racers: Sequence[str]) -> None:
    """Remove what racers might have gone on from, now that the race is over."""
    for racer in racers:
        for item in fold_items(run, racer):
            for folder in work_dirs(run, item).values():
                shutil.rmtree(folder, ignore_errors=True)


def _nobody(venue: Venue) -> IncompleteError:
    reasons = {label: why for error in venue.failures.values() for label, why in error.reasons.items()}
    codes = {error.exit_code for error in venue.failures.values()}
    return IncompleteError(
        f"every racer failed ({'; '.join(dict.fromkeys(reasons.values()))}); fix the cause and run the same command "
        "again",
        exit_code=codes.pop() if len(codes) == 1 else None,
        reasons=reasons,
    )
