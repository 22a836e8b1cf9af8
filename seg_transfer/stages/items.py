"""The work of a study: the sources that it trains, the fine-tunings it wants, and the metrics a source can have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.errors import DataError
from seg_transfer.metrics import METRICS
from seg_transfer.store.results import needs_source_images
from seg_transfer.study.definition import SourceEntry
from seg_transfer.study.run import Pair, Run, chosen, fine_tuning_of


@dataclass(frozen=True)
class Trial:
    """One fine-tuning: a source, or the control from scratch (None), on a target with one seed."""

    source: SourceEntry | None
    target: str
    seed: int

    @property
    def source_name(self) -> str:
        """The name in tables and folders."""
        return self.source.name if self.source else SCRATCH

    def __str__(self) -> str:
        """How a trial is written in messages."""
        return f"{self.source_name} -> {self.target}, seed {self.seed}"


def source_lease(run: Run, source: str) -> Path:
    """Where the lease of a source's training lies."""
    return run.lease("sources", source)


def pair_lease(run: Run, pair: Pair) -> Path:
    """Where the lease of a pair's scoring lies."""
    return run.lease("scores", pair[0].name, pair[1])


def trial_lease(run: Run, trial: Trial) -> Path:
    """Where the lease of a fine-tuning lies."""
    return run.lease("performance", trial.source_name, trial.target, str(trial.seed))


def trained_by_study(run: Run, only: Sequence[str] = ()) -> list[SourceEntry]:
    """The sources among these that the study trains; of all when none is named."""
    names = chosen([source.name for source in run.study.sources], only, "source")
    return [entry for entry in map(run.study.source, names) if entry.kind == "study"]


def wanted_trials(run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Trial]:
    """All fine-tunings of these sources (``scratch`` among them) and targets; all when none is named.

    Seed by seed: a study that is stopped early has every pair once before it has any pair twice.
    """
    controls = [SCRATCH] if fine_tuning_of(run).scratch else []
    names = chosen([*controls, *(source.name for source in run.study.sources)], sources, "source")
    entries = [None if name == SCRATCH else run.study.source(name) for name in names]
    return [
        Trial(entry, target, seed)
        for seed in fine_tuning_of(run).seeds
        for target in chosen(run.study.targets, targets, "target")
        for entry in entries
        if entry is None or entry.dataset != target
    ]


def uninstalled_metrics(run: Run) -> list[str]:
    """The study's metrics whose library is not installed."""
    return [name for name in run.study.metrics if not METRICS[name].installed]


def metrics_of(run: Run, entry: SourceEntry, *, unseen: bool) -> list[str]:
    """The study's metrics that a source can have; `unseen` when its own images are not at hand."""
    skipped = {*uninstalled_metrics(run), *(skipped_metrics(run) if unseen else ()), *featureless(run, entry)}
    return [name for name in run.study.metrics if name not in skipped]


def featureless(run: Run, entry: SourceEntry) -> list[str]:
    """The study's metrics that a source without features cannot have; none of any other source."""
    of_features = {"features", "image_embeddings", "source_images"}
    return [name for name in run.study.metrics if entry.scores_only and METRICS[name].needs & of_features]


def skipped_metrics(run: Run) -> list[str]:
    """The study's metrics that a source cannot have whose own images are not at hand."""
    return sorted(filter(needs_source_images, run.study.metrics))


def why_unseen(run: Run, entry: SourceEntry) -> str:
    """Why a source's own images are not at hand; "" when they are."""
    if entry.dataset not in run.manifests:
        return f"not in this study (dataset {entry.dataset} has no manifest)"
    try:
        run.low_shot(entry.dataset)
    except DataError as error:
        return f"missing ({error})"
    return ""
