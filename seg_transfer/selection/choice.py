"""The answer of a race: which source was chosen, what it reaches, what the others reached, and what that cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from seg_transfer.errors import IncompleteError
from seg_transfer.evaluation import Ranking, difference_interval, miou_interval, plain_rows
from seg_transfer.reports.race_page import PAGE
from seg_transfer.selection.choice_text import choice_sentences, choice_text
from seg_transfer.selection.paces import mean_pace
from seg_transfer.selection.race_plan import Pace
from seg_transfer.selection.race_state import RaceState
from seg_transfer.selection.standings import Judgment, judgments
from seg_transfer.selection.venue import Venue
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.study.run import snapshot


@dataclass(frozen=True, repr=False)
class Choice:
    """A source that was chosen for a target by a race, and fine-tuned.

    ``print(choice)`` shows it as text.

    Attributes:
        target: Name of the dataset.
        best: The chosen source.
        measured: What it reached in the race on images that it had not seen: ``miou``, a fraction in [0, 1], and its
            interval over images from ``low`` to ``high``; ``n_images``; the ``steps`` after which it was measured, of
            ``of_steps``; ``second``, the runner-up, and ``lead`` over it with its paired interval from ``lead_low`` to
            ``lead_high``, both None without one.
        race: One row per source that was scored, best first: place (missing where it did not race), source, family,
            miou with low and high where it was judged last, steps until it left, score_rank (within its family),
            seconds of its race, and why it left.
        curves: What every racer reached: one row per judgment with source, steps, miou.
        by_scores: The source that scores alone put first.
        minutes: Computing time in minutes: of ``scoring``, the ``race``, the ``final`` fine-tuning, all ``spent``
            together, and ``tuning_all``, an estimate for one fine-tuning to the end of every source that was scored.
        cross_validated: Whether each half of the images judged what the other one trained, because they are few.
        folder: The fine-tuned network, for ``seg-transfer predict``.
        run_folder: Folder of all results.
        ranking: The ranking by scores.
        failed: Source -> why it left the race by failing.
    """

    target: str
    best: str
    measured: Mapping[str, Any]
    race: pd.DataFrame
    curves: pd.DataFrame
    by_scores: str
    minutes: Mapping[str, float]
    cross_validated: bool
    folder: Path
    run_folder: Path
    ranking: Ranking = field(compare=False)
    failed: Mapping[str, IncompleteError] = field(default_factory=dict, compare=False)

    @property
    def page(self) -> Path:
        """The race as a page."""
        return self.run_folder / "choice" / PAGE

    def __str__(self) -> str:
        """The race as a text table, followed by sentences that explain it."""
        return choice_text(self)

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """The choice as plain data for JSON."""
        return {
            "target": self.target,
            "best": self.best,
            "measured": dict(self.measured),
            "race": plain_rows(self.race),
            "curves": plain_rows(self.curves),
            "by_scores": self.by_scores,
            "minutes": dict(self.minutes),
            "cross_validated": self.cross_validated,
            "folder": str(self.folder),
            "page": str(self.page),
            "run_folder": str(self.run_folder),
            "skipped": dict(self.ranking.skipped),
            "sentences": choice_sentences(self),
        }


def choice_of(
    venue: Venue, ranking: Ranking, entrants: Sequence[str], state: RaceState, rungs: Sequence[Sequence[Judgment]]
) -> Choice:
    """Make the answer of a finished race from what the run folder holds.

    Args:
        venue: Where it was run.
        ranking: The ranking by scores.
        entrants: All that might have raced.
        state: Its state, with a plan.
        rungs: The judgments of every rung, the best first; the last one has the winner.
    """
    plan, run = state.plan, snapshot(venue.run)
    assert plan is not None
    winner = rungs[-1][0]
    folder = run.fine_tuned_folder(winner.source, venue.target, run.study.fine_tuning.seeds[0])  # type: ignore[union-attr]
    courses = {name: judgments(run, name) for name in entrants}
    last = {one.source: one for judged in rungs for one in judged}
    rows = [_row(one, courses[name], plan.steps) for name, one in last.items()]
    placed = sorted(rows, key=lambda row: (-row["steps"], -row["miou"]))
    race = _race_table(ranking, placed, _reasons(entrants, state, venue))
    curves = [
        {"source": name, "steps": one.steps, "miou": one.miou}
        for name in race["source"]
        for one in courses.get(name, ())
        if name in last and one.steps <= last[name].steps
    ]
    final_seconds = read_source_card(folder / FILE_NAME).seconds
    return Choice(
        target=venue.target,
        best=winner.source,
        measured=_measured(rungs[-1], plan.steps),
        race=race,
        curves=pd.DataFrame(curves, columns=["source", "steps", "miou"]),
        by_scores=ranking.best,
        minutes=_minutes(ranking, state, list(courses.values()), final_seconds),
        cross_validated=len(run.folds(venue.target)) > 1,
        folder=folder,
        run_folder=run.folder,
        ranking=ranking,
        failed=dict(venue.failures),
    )


def _row(last: Judgment, course: Sequence[Judgment], of_steps: int) -> dict[str, Any]:
    low, high = miou_interval(last.counts)
    ran_to_the_end = last.steps == of_steps
    return {
        "source": last.source,
        "miou": last.miou,
        "low": low,
        "high": high,
        "steps": last.steps,
        "seconds": sum(one.seconds for one in course if one.steps <= last.steps),
        "left": "" if ran_to_the_end else f"after {last.steps} of {of_steps} steps",
    }


def _measured(judged: Sequence[Judgment], of_steps: int) -> dict[str, Any]:
    """Describe what the winner of the last rung reached, and its lead over the second."""
    winner, second = judged[0], judged[1] if len(judged) > 1 else None
    low, high = miou_interval(winner.counts)
    lead = (None, None) if second is None else difference_interval(winner.counts, second.counts)
    return {
        "miou": winner.miou,
        "low": _known(low),
        "high": _known(high),
        "n_images": len(winner.images),
        "steps": winner.steps,
        "of_steps": of_steps,
        "second": second and second.source,
        "lead": second and winner.miou - second.miou,
        "lead_low": _known(lead[0]),
        "lead_high": _known(lead[1]),
    }


def _race_table(ranking: Ranking, placed: Sequence[Mapping[str, Any]], reasons: Mapping[str, str]) -> pd.DataFrame:
    """Put the racers, in order, before the sources that did not race, in the order of their scores."""
    facts = ranking.table.set_index("source")
    rows = [{"place": place, **row} for place, row in enumerate(placed, start=1)]
    raced = {row["source"] for row in rows}
    rows += [
        {"source": name, "left": reasons.get(name, "its scores rule it out")}
        for name in facts.index
        if name not in raced
    ]
    table = pd.DataFrame(rows).reindex(columns=["place", "source", "miou", "low", "high", "steps", "seconds", "left"])
    table = table.astype({"place": "Int64", "steps": "Int64"})
    table.insert(2, "family", facts["family"].reindex(table["source"]).to_numpy())
    table.insert(7, "score_rank", facts["rank"].reindex(table["source"]).to_numpy())
    return table


def _reasons(entrants: Sequence[str], state: RaceState, venue: Venue) -> dict[str, str]:
    """Say why entrants were never judged in the race: the budget left them out, or they failed."""
    assert state.plan is not None
    reasons = {name: "the budget leaves it out" for name in entrants if name not in state.plan.racers}
    failed = {name: "; ".join(dict.fromkeys(error.reasons.values())) for name, error in venue.failures.items()}
    return reasons | {name: f"failed: {why}" for name, why in failed.items()}


def _minutes(
    ranking: Ranking, state: RaceState, courses: Sequence[Sequence[Judgment]], final_seconds: float
) -> dict[str, float]:
    """Add up the computing time, and estimate that of fine-tuning every source once to the end."""
    scoring = float(ranking.table["seconds"].sum())
    race = sum(one.seconds for course in courses for one in course)
    unknown: Pace = mean_pace(state.paces)
    paces = [state.paces.get(name, unknown) for name in ranking.table["source"]]
    tuning_all = sum(state.steps * pace.step + pace.rung for pace in paces)
    seconds = {"scoring": scoring, "race": race, "final": final_seconds, "spent": scoring + race + final_seconds}
    return {name: value / 60 for name, value in {**seconds, "tuning_all": tuning_all}.items()}


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
