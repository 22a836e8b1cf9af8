"""Reads the input of a report from published pairs."""

from __future__ import annotations

import pandas as pd

from seg_transfer.evaluation import metric_columns
from seg_transfer.reports.inputs import ReportInput, run_input
from seg_transfer.reports.performance import MIOU, Performance
from seg_transfer.store.published import PAIRS, published_facts, published_pairs, published_studies

# Name of the published pairs -> the subject of the title, and what the actual performance is.
_ABOUT = {
    "segmentation": ("pairs", MIOU),
    "architectures": ("architectures, fine-tuned", Performance("accuracy")),
    "architectures_frozen": (
        "architectures, frozen",
        Performance("accuracy", "with a linear head on fixed features", "choose"),
    ),
}


def published_input(name: str = "segmentation") -> ReportInput:
    """Read published pairs; those of others have no standard errors and no computing times.

    Args:
        name: One of `seg_transfer.store.published.published_names`.

    Raises:
        ResultsError: The name is unknown, or the results cannot be read.
    """
    study = published_studies().get(name)
    if study is not None:
        return run_input(study)
    pairs, _ = published_pairs(name)
    facts = published_facts(PAIRS[name][0])
    about = facts["columns"]
    metrics = [column for column in metric_columns(pairs) if column in about]
    faulty = [column for column in metrics if about[column].get("faulty")]
    classes = pairs.drop_duplicates("target")[["target", "n_target_classes"]].sort_values("target", ignore_index=True)
    subject, performance = _ABOUT[name]
    return ReportInput(
        title=f"Published {subject}: which metric chooses the right source?",
        origin=(f"{facts['title']}.", f"{facts['origin']}.", f"License: {facts['licence']}."),
        created="",
        scores=pairs.melt(["source", "target"], metrics, "metric", "score"),
        miou=pairs[["source", "target", "miou"]],
        pairs=pairs,
        performance=pd.DataFrame(columns=["source", "target", "miou", "seed", "seconds"]),
        warnings=tuple(f"{column}: {about[column]['meaning']}." for column in faulty),
        datasets=classes.rename(columns={"target": "dataset", "n_target_classes": "n_classes"}),
        about_metrics=True,
        settings={f"published.{key}": str(facts[key]) for key in ("commit", "changes")}
        | {f"published.column.{column}": f"{about[column]['unit']}: {about[column]['meaning']}" for column in about},
        measured=performance,
    )
