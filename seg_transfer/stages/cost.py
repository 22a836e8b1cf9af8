"""Estimates the cost of a stage's missing items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from seg_transfer.stages.base import Item, Stage
from seg_transfer.stages.probe import Probe
from seg_transfer.study.run import Run


@dataclass(frozen=True, slots=True)
class Missing:
    """An item that a stage would compute.

    Attributes:
        item: Name of the item.
        seconds: Expected duration on this machine.
        basis: "finished items" if the estimate is their mean; otherwise what was timed.
    """

    item: str
    seconds: float
    basis: str


def missing_costs(stage: Stage, run: Run, items: Iterable[Item], device: str, settings: object = None) -> list[Missing]:
    """The items among these that the stage would compute, and what each is expected to cost on `device`.

    Args:
        stage: Of `STAGES`.
        run: The study.
        items: Of the stage.
        device: Where forward passes are timed.
        settings: Of the stage's `settings_type`; None where they do not matter.
    """
    finished, probe = stage.finished_seconds(run), Probe(run, device)

    def cost(item: Item, parts: Sequence[str]) -> Missing:
        name = f"{stage.label(item)}: {', '.join(parts)}" if parts else stage.label(item)
        if reason := stage.impossible_reason(run, item):
            return Missing(name, 0.0, f"nothing: {reason}")
        if finished:
            return Missing(name, fmean(finished), "finished items")
        return Missing(name, stage.estimate(run, item, parts, probe), stage.basis)

    return [cost(item, parts) for item, parts in stage.missing(run, items, settings).items()]
