"""What of a study is done, missing or stale, and what made it stale; runs nothing and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from seg_transfer.data.records import why_absent
from seg_transfer.errors import as_failure
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, Stage, Status
from seg_transfer.study.run import CachedRun, Run


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One piece of a study's work, and what the run folder holds of it.

    Attributes:
        stage: Of `STAGES`, that computes it.
        name: How messages name it.
        source, target: What it is of; "" where it has none.
        status: Done, missing, or stale: there is a result that the stage would replace.
    """

    stage: str
    name: str
    source: str
    target: str
    status: Status


def absent_datasets(run: Run) -> dict[str, str]:
    """Incomplete datasets of the study -> what is missing below the data root, and how to get it."""
    reasons = {name: why_absent(manifest, run.data_root) for name, manifest in sorted(run.manifests.items())}
    return {name: reason for name, reason in reasons.items() if reason}


def plan_items(run: CachedRun) -> list[PlanItem]:
    """All items that make a study complete, stage by stage in the order in which they are done."""
    return [
        PlanItem(stage.name, stage.label(item), item.source, item.target, _status(stage, run, item))
        for stage in STAGES.values()
        if stage.planned and stage.is_wanted(run)
        for item in stage.items(run)
    ]


def _status(stage: Stage, run: CachedRun, item: Item) -> Status:
    """Stale, for the reason of the error, where the result, or what decides it, cannot be read."""
    try:
        return stage.status(run, item)
    except Exception as error:  # one item that cannot be inspected stops no other
        return Status("stale", (" ".join(str(as_failure(error)).split()),))
