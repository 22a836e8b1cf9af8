"""The answer of a race, and the plan before it, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from seg_transfer.evaluation import TextTable
from seg_transfer.selection.race_plan import Plan

if TYPE_CHECKING:
    from seg_transfer.selection.choice import Choice

_UNKNOWN = "\N{EN DASH}"


def plan_sentences(plan: Plan, step_seconds: Sequence[float], n_folds: int) -> list[str]:
    """Say who will race how far, and what that takes.

    Args:
        plan: The race.
        step_seconds: Seconds of a step of every racer, measured or estimated.
        n_folds: Number of fine-tunings per racer.
    """
    halves = ", twice each, because either half of the images judges what the other one trained" if n_folds > 1 else ""
    rungs = "; ".join(f"{_racers(rung.n_racers)} up to step {rung.steps}" for rung in plan.rungs)
    slowest, fastest = max(step_seconds), min(step_seconds)
    pace = f"{slowest:.2f} s" if slowest < 1.1 * fastest else f"{fastest:.2f} to {slowest:.2f} s"
    return [
        f"Race of {', '.join(plan.racers)}: {rungs}, of {plan.steps}{halves}.",
        f"The best is then fine-tuned for {plan.steps} steps on all images. A step takes {pace}.",
    ]


def _racers(number: int) -> str:
    return f"{number} racer{'s' if number > 1 else ''}"


def choice_sentences(choice: Choice) -> list[str]:
    """Explain a choice, one or two sentences each: the winner, how sure that is, scores alone, the cost, the folder."""
    return [sentence for sentences in choice_facts(choice).values() for sentence in sentences]


def choice_facts(choice: Choice) -> dict[str, list[str]]:
    """Return the same sentences by the questions that they answer; questions without an answer are left out."""
    left = [f"{name} left the race: {'; '.join(error.reasons.values())}." for name, error in choice.failed.items()]
    skipped = [f"Skipped {name}: {reason}." for name, reason in choice.ranking.skipped.items()]
    facts = {
        "Which model?": [_winner(choice)],
        "How certain?": list(_lead(choice)),
        "And by scores alone?": [_by_scores(choice)],
        "At what cost?": [_cost(choice)],
        "Who is missing?": left + skipped,
        "Where is it?": [_folder(choice)],
    }
    return {question: sentences for question, sentences in facts.items() if sentences}


def choice_table(choice: Choice) -> TextTable:
    """Format the race as a table of text."""
    several = choice.race["family"].nunique() > 1
    columns = ["place", "source", *(["family"] if several else []), "mIoU", "interval", "by score", "s", "left"]
    rows = [_cells(row, several=several) for row in choice.race.to_dict("records")]
    return TextTable(f"Race for {choice.target}", columns, rows, "source", ["s", "by score"])


def choice_text(choice: Choice) -> str:
    """Format a choice as plain text: its table, then its sentences."""
    table = choice_table(choice)
    lines = [table.columns, *table.rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([table.title, *shown, "", *choice_sentences(choice)])


def _cells(row: Mapping[Any, Any], *, several: bool) -> list[str]:
    raced = not pd.isna(row["place"])
    interval = "" if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}"
    family = [_UNKNOWN if pd.isna(row["family"]) else str(row["family"])] if several else []
    return [
        str(row["place"]) if raced else "",
        str(row["source"]),
        *family,
        f"{row['miou']:.3f}" if raced else "",
        interval,
        str(row["score_rank"]),
        f"{row['seconds']:.0f}" if raced else "",
        str(row["left"]),
    ]


def _winner(choice: Choice) -> str:
    measured = choice.measured
    interval = "" if measured["low"] is None else f" ({measured['low']:.3f} to {measured['high']:.3f} on other images)"
    images = f"{measured['n_images']} labeled images that it had not seen"
    ended = measured["steps"] == measured["of_steps"]
    when = "" if ended else f" after {measured['steps']} of {measured['of_steps']} steps"
    return f"{choice.best} won the race for {choice.target}: mIoU {measured['miou']:.3f}{interval}{when}, on {images}."


def _lead(choice: Choice) -> Iterator[str]:
    measured = choice.measured
    if measured["second"] is None:
        yield "It was the only racer: no other source may be better, as far as scores can tell."
    elif measured["lead_low"] is None:
        yield f"It leads {measured['second']} by {measured['lead']:.3f}."
    else:
        doubt = "; other images might have chosen the other one" if measured["lead_low"] <= 0 else ""
        interval = f"{measured['lead_low']:+.3f} to {measured['lead_high']:+.3f} on other images"
        yield f"It leads {measured['second']} by {measured['lead']:.3f} ({interval}){doubt}."
    if choice.cross_validated:
        yield "There are few images: each half judged what the other one trained, and scores saw all of them."


def _by_scores(choice: Choice) -> str:
    if choice.by_scores == choice.best:
        return "Scores alone would have chosen it too."
    row = choice.race.set_index("source").loc[choice.by_scores]
    if pd.isna(row["place"]):
        return f"Scores alone would have chosen {choice.by_scores}, which did not race ({row['left']})."
    return (
        f"Scores alone would have chosen {choice.by_scores}, which came in at place {row['place']} with "
        f"{row['miou']:.3f} after {row['steps']} steps."
    )


def _cost(choice: Choice) -> str:
    minutes = choice.minutes
    parts = (
        f"{minutes['scoring']:.1f} for scores, {minutes['race']:.1f} for the race, {minutes['final']:.1f} for the end"
    )
    share = f"{100 * minutes['spent'] / minutes['tuning_all']:.0f} %" if minutes["tuning_all"] > 0 else _UNKNOWN
    return (
        f"{minutes['spent']:.1f} minutes of computing ({parts}), {share} of the {minutes['tuning_all']:.1f} that "
        f"fine-tuning all {len(choice.ranking.table)} sources once would take."
    )


def _folder(choice: Choice) -> str:
    return (
        f"The network to take home, fine-tuned for {choice.measured['of_steps']} steps on all labeled images: "
        f"{choice.folder}. None is left to measure it by."
    )
