"""Scores the sources of one target, and ranks them by what could be scored.

Beside the metric that decides, the metric `LINEAR_HEAD` is computed in the same pass: what a linear head reaches
without fine-tuning. It decides nothing, so a source that lacks it is ranked like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import yaml

from seg_transfer.console import warnings_only
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.engines.here import run_items
from seg_transfer.errors import IncompleteError, SegTransferError
from seg_transfer.evaluation import LINEAR_HEAD, Ranking, parts_of, ranking_of
from seg_transfer.metrics import METRICS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.progress import progress_of
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, pair_label, part_label
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.stages.score_keys import metrics_requiring_features, metrics_requiring_probabilities
from seg_transfer.store.atomic import write_text
from seg_transfer.store.confidence import published_slope
from seg_transfer.store.network_costs import read_costs
from seg_transfer.store.tables import SCORES, metadata_of, read_table
from seg_transfer.study.definition import HoldOut, Sampling, Study
from seg_transfer.study.run import Run, prepare_folder, snapshot

STUDY_FILE = "rank.yaml"
TARGET_FILE = "target.yaml"


@dataclass(frozen=True)
class Request:
    """A request to rank: the target, the sources that can be scored on it, and the settings.

    Attributes:
        target: The manifest of the target.
        data_root: Folder that its root is relative to.
        sources: The sources to score.
        skipped: Source that is not scored -> the reason.
        metric: The metric that decides the order.
        seed: Seed of the pixel sample.
        device: Torch device.
        alpha: Level of the two-sided test that decides which sources are tied for first.
        with_linear_head: Whether `LINEAR_HEAD` is computed too.
        hold_out: Labeled images that are not scored; None holds none out.
    """

    target: DatasetManifest
    data_root: Path
    sources: Sequence[SourceEntry]
    skipped: Mapping[str, str]
    metric: str
    seed: int = 0
    device: str = "cpu"
    alpha: float = 0.05
    with_linear_head: bool = True
    hold_out: HoldOut | None = None


def n_images_of(request: Request, folder: Path) -> int:
    """Return the number of images that the target has, up to its limit."""
    return len(run_of(request, folder).low_shot(request.target.name))


def rank_scored(request: Request, folder: Path) -> Ranking:
    """Compute the missing scores in a run folder, and rank.

    Raises:
        IncompleteError: Every source failed; the reasons were logged.
    """
    run = run_of(request, folder)
    prepare_folder(run)
    failed = _score(run, request.device)
    missing = _missing_metrics(run)
    rows, facts, skipped = {}, {}, dict(request.skipped)
    for entry in request.sources:
        unsuitable = [*metrics_requiring_features(run, entry), *metrics_requiring_probabilities(run, entry)]
        lacking = [*missing.get(entry.name, ()), *unsuitable]
        if needed := [name for name in lacking if name in parts_of(request.metric)]:
            skipped[entry.name] = skip_reason(Item(entry.name, request.target.name), failed, needed)
        else:
            scored = read_table(run.scores_file(entry.name, request.target.name), SCORES)
            valid = set(run.study.metrics).difference(lacking)
            rows[entry.name] = {row["metric"]: row for row in scored.to_pylist() if row["metric"] in valid}
            facts[entry.name] = _facts(run, entry, metadata_of(scored, "source_key"))
    if not rows:
        reasons = "; ".join(dict.fromkeys(skipped.values()))
        raise IncompleteError(
            f"no source could be scored on {request.target.name} ({reasons}); fix the cause and rank again",
            exit_code=failed.exit_code if failed else None,
            reasons=skipped,
        )
    slope = published_slope(request.metric)
    ranking = ranking_of(request.target.name, request.metric, rows, skipped, request.alpha, facts, slope)
    return replace(ranking, failed=_failures_that_count(run, request.metric, failed))


def skip_reason(item: Item, failed: IncompleteError | None, lacking: Sequence[str]) -> str:
    """Return the reason why a source lacks scores by these metrics."""
    reasons = failed.reasons if failed else {}
    labels = [pair_label(item), *(part_label(item, metric) for metric in METRICS if metric in lacking)]
    known = [reasons[label] for label in labels if label in reasons]
    return "; ".join(dict.fromkeys(known)) or f"cannot be scored by {', '.join(lacking)}; choose another metric"


def _failures_that_count(run: Run, metric: str, failed: IncompleteError | None) -> IncompleteError | None:
    """Return the failures, or None where only the linear head failed, which decides nothing and was logged."""
    if failed is None or LINEAR_HEAD in parts_of(metric):
        return failed
    target = run.study.targets[0]
    harmless = {part_label(Item(entry.name, target), LINEAR_HEAD) for entry in run.study.sources}
    return failed if set(failed.reasons) - harmless else None


def run_of(request: Request, folder: Path) -> Run:
    """Make a study of the target and the sources; its run folder also holds the target's manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / TARGET_FILE
    write_text(file, request.target.as_yaml())
    parts = parts_of(request.metric)
    study = Study(
        name=f"rank-{request.target.name}",
        manifests=(file.resolve(),),
        sources=tuple(request.sources),
        targets=(request.target.name,),
        metrics=parts,
        hold_out=request.hold_out,
        sampling=Sampling(seed=request.seed),
    )
    run = Run(study, {request.target.name: request.target}, request.data_root, folder)
    if request.with_linear_head and _has_several_images(run):
        run = replace(run, study=study.model_copy(update={"metrics": tuple(dict.fromkeys([*parts, LINEAR_HEAD]))}))
    write_study(run, folder / STUDY_FILE)
    return run


def write_study(run: Run, file: Path) -> None:
    """Write the study of a run beside its target's manifest, for the commands that take a study."""
    fields = {**run.study.model_dump(mode="json", exclude_defaults=True), "manifests": [TARGET_FILE]}
    write_text(file, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))


def _has_several_images(run: Run) -> bool:
    """Whether a linear head can be fitted on some images and judged by others."""
    try:
        return len(run.low_shot(run.study.targets[0])) > 1
    except SegTransferError:  # scoring will report the problem
        return False


def _facts(run: Run, entry: SourceEntry, source_key: str) -> dict[str, object]:
    """Return what is known about a source besides its scores, which belong to weights with this key."""
    costs = read_costs(run.folder, entry.name, source_key)
    names = ("family", "parameters", "gflops", "revision")
    known = {} if costs is None else {name: getattr(costs, name) for name in names}
    return {**known, "license": entry.license}


def _score(run: Run, device: str) -> IncompleteError | None:
    """Score every source; returns the failures, which were logged, or None."""
    target = run.study.targets[0]
    items, numbers = [Item(name, target) for name in _missing_metrics(run)], count(1)
    try:
        with progress_of(f"scoring sources on {target}") as tick, warnings_only():
            run_items(
                STAGES["score"],
                run,
                items,
                ScoreSettings(device=device),
                done=lambda item: tick(next(numbers), len(items)),
            )
    except IncompleteError as error:
        return error
    return None


def _missing_metrics(run: Run) -> dict[str, Sequence[str]]:
    """Return the metrics without a valid score for each source that lacks any."""
    inspected, missing = snapshot(run), dict[str, Sequence[str]]()
    for entry in run.study.sources:
        item = Item(entry.name, run.study.targets[0])
        try:
            metrics = STAGES["score"].missing(inspected, [item]).get(item)
        except Exception:  # scoring will report the problem
            metrics = run.study.metrics
        if metrics:
            missing[entry.name] = metrics
    return missing
