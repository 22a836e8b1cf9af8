"""Lists which items of a study are done, missing or stale, and why; computes nothing and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from seg_transfer.data.records import absence_reason
from seg_transfer.errors import as_failure
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, Stage, Status
from seg_transfer.study.run import CachedRun, Run


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One item of a study, and its state in the run folder.

    Attributes:
        stage: Name of the stage that computes it.
        name: Name of the item in messages.
        source, target: Names of its source and target; "" if it has none.
        status: Whether it is done, missing or stale.
    """

    stage: str
    name: str
    source: str
    target: str
    status: Status


def absent_datasets(run: Run) -> dict[str, str]:
    """Return, for each incomplete dataset of the study, what is missing below the data root and how to get it."""
    reasons = {name: absence_reason(manifest, run.data_root) for name, manifest in sorted(run.manifests.items())}
    return {name: reason for name, reason in reasons.items() if reason}


def plan_items(run: CachedRun) -> list[PlanItem]:
    """Return all items that a complete study needs, ordered by stage, in the order of execution."""
    return [
        PlanItem(stage.name, stage.label(item), item.source, item.target, _status(stage, run, item))
        for stage in STAGES.values()
        if stage.planned and stage.is_wanted(run)
        for item in stage.items(run)
    ]


def _status(stage: Stage, run: CachedRun, item: Item) -> Status:
    """Return the status of an item; if the result or one of its inputs cannot be read, it is stale for that reason."""
    try:
        return stage.status(run, item)
    except Exception as error:  # one item that cannot be inspected stops no other
        return Status("stale", (" ".join(str(as_failure(error)).split()),))
