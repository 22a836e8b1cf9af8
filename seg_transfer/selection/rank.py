"""Ranks source models for one target: which of my models should be fine-tuned on this dataset?

The run folder holds the answer, ``ranking.json``, and a study of the target and its sources, ``rank.yaml``, for other
commands. With a budget, models are ranked on more and more images; all these rounds together cost at most about twice
as much as ranking on all images.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from seg_transfer.console import warnings_only
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.engines.here import run_items
from seg_transfer.errors import ConfigError, IncompleteError
from seg_transfer.evaluation import Ranking, parts_of, ranking_of
from seg_transfer.metrics import METRICS
from seg_transfer.models.devices import chosen_device
from seg_transfer.models.entry import SourceEntry
from seg_transfer.progress import progress_of
from seg_transfer.selection.target import Target, target_manifest
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, pair_label, part_label
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.stages.score_keys import metrics_requiring_features, metrics_requiring_probabilities
from seg_transfer.store.atomic import write_text
from seg_transfer.store.confidence import published_slope
from seg_transfer.store.network_costs import read_costs
from seg_transfer.store.tables import SCORES, STABILITY, metadata_of, ranking_file, read_table, write_rows
from seg_transfer.study.bank import SourceSpec, read_sources
from seg_transfer.study.definition import Sampling, Study
from seg_transfer.study.run import Run, prepare_folder, snapshot

if TYPE_CHECKING:
    import pandas as pd

STUDY_FILE = "rank.yaml"
FIRST_N_IMAGES = 10
STABILITY_IMAGES = (10, 25, 50, 100, 150)
N_STABILITY_SEEDS = 3


@dataclass(frozen=True)
class _Request:
    """A request to rank: the target, the sources that can be scored on it, and the settings."""

    target: DatasetManifest
    data_root: Path
    sources: Sequence[SourceEntry]
    skipped: Mapping[str, str]
    metric: str
    seed: int = 0
    device: str = "cpu"
    alpha: float = 0.05


def rank_sources(
    target: Target,
    sources: Sequence[SourceSpec] | SourceSpec,
    *,
    metric: str = "rank_mean",
    images: int | None = None,
    budget: bool = False,
    stability: bool = False,
    seed: int = 0,
    data_root: str | Path = ".",
    run_folder: str | Path | None = None,
    device: str = "auto",
) -> Ranking:
    """Rank source models by how well they are likely to do on a target once they are fine-tuned.

    Every source makes one forward pass over the target's training images; nothing is trained.

    Args:
        target: As `seg_transfer.selection.target.target_manifest` takes it: a manifest, or folders.
        sources: One or several arguments of `seg_transfer.study.bank.read_sources`: a YAML bank, a folder of models, a
            ``source.json``, ``config.py:weights.pth``, or mappings with the fields of an entry.
        metric: Metric that decides the order; ``rank_mean`` is the mean rank by GBC and LogME.
        images: Maximum number of the target's images to use; the manifest's low-shot limit by default.
        budget: Use 10 images, then 20, 40, ..., until the best source leads all others by more than chance.
        stability: Rank again on 10, 25, 50, ... images, each with three pixel samples.
        seed: Seed of the pixel sample.
        data_root: Folder that the root of a manifest is relative to.
        run_folder: Folder for scores and the answer, so that a second call repeats nothing; None keeps nothing.
        device: "auto", or a torch device.

    Returns:
        The ranking, best first; ``skipped`` has the reason for each source that was trained on the target or failed.

    Raises:
        ConfigError: A manifest, bank, entry or setting breaks a rule, or no source is left to score.
        IncompleteError: Every source failed; the reasons were logged.
        DataError: Files of the target are missing or not as the manifest says.
        DoubtfulError: Folders can be read in more than one way.
    """
    with _folder(run_folder) as folder:
        request = _request(target, sources, metric, images, Path(data_root))
        request = replace(request, seed=seed, device=chosen_device(device))
        began = time.monotonic()
        ranking = _within_budget(request, folder) if budget else _ranked(request, folder)
        if stability:
            ranking = replace(ranking, stability=_stability(request, ranking, folder))
        ranking = replace(ranking, seconds=time.monotonic() - began, run_folder=None if run_folder is None else folder)
        if run_folder is not None:
            write_text(ranking_file(folder), json.dumps(ranking.as_dict(), indent=1) + "\n")
        return ranking


@contextlib.contextmanager
def _folder(wanted: str | Path | None) -> Iterator[Path]:
    if wanted is not None:
        yield Path(wanted)
        return
    with tempfile.TemporaryDirectory(prefix="seg_transfer_") as temporary:
        yield Path(temporary)


def _request(
    target: Target, sources: Sequence[SourceSpec] | SourceSpec, metric: str, images: int | None, data_root: Path
) -> _Request:
    if metric not in METRICS:
        raise ConfigError(f"metric {metric!r} is unknown; choose among {', '.join(METRICS)}")
    manifest, root = target_manifest(target, data_root, images)
    manifest = manifest.with_limit(images)
    several = [sources] if isinstance(sources, str | Path | Mapping | SourceEntry) else list(sources)
    entries, unusable = read_sources(*several)
    skipped = {member.name: member.reason for member in unusable}
    for entry in entries:
        if entry.dataset == manifest.name:
            skipped[entry.name] = f"trained on {manifest.name} itself"
    left = [entry for entry in entries if entry.name not in skipped]
    if not left:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ConfigError(f"no source is left to rank for {manifest.name} ({reasons}); name other sources")
    return _Request(manifest, root, left, skipped, metric)


def _run(request: _Request, folder: Path) -> Run:
    """Make a study of the target and the sources; its run folder also holds the target's manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "target.yaml"
    write_text(file, request.target.as_yaml())
    study = Study(
        name=f"rank-{request.target.name}",
        manifests=(file.resolve(),),
        sources=tuple(request.sources),
        targets=(request.target.name,),
        metrics=parts_of(request.metric),
        sampling=Sampling(seed=request.seed),
    )
    # The same study as a file, for the commands that take a study.
    fields = {**study.model_dump(mode="json", exclude_defaults=True), "manifests": [file.name]}
    write_text(folder / STUDY_FILE, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))
    return Run(study, {request.target.name: request.target}, request.data_root, folder)


def _ranked(request: _Request, folder: Path) -> Ranking:
    """Compute the missing scores, and rank."""
    run = _run(request, folder)
    prepare_folder(run)
    failed = _score(run, request.device)
    missing = _missing_metrics(run)
    rows, facts, skipped = {}, {}, dict(request.skipped)
    for entry in request.sources:
        unsuitable = [*metrics_requiring_features(run, entry), *metrics_requiring_probabilities(run, entry)]
        if lacking := [*missing.get(entry.name, ()), *unsuitable]:
            skipped[entry.name] = _skip_reason(Item(entry.name, request.target.name), failed, lacking)
        else:
            scored = read_table(run.scores_file(entry.name, request.target.name), SCORES)
            rows[entry.name] = {row["metric"]: row for row in scored.to_pylist()}
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
    return replace(ranking, failed=failed)


def _facts(run: Run, entry: SourceEntry, source_key: str) -> dict[str, object]:
    """Return what is known about a source besides its scores, which belong to weights with this key."""
    costs = read_costs(run.folder, entry.name, source_key)
    names = ("parameters", "gflops", "revision")
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


def _skip_reason(item: Item, failed: IncompleteError | None, lacking: Sequence[str]) -> str:
    """Return the reason why a source lacks scores."""
    reasons = failed.reasons if failed else {}
    labels = [pair_label(item), *(part_label(item, metric) for metric in METRICS)]
    known = [reasons[label] for label in labels if label in reasons]
    return "; ".join(dict.fromkeys(known)) or f"cannot be scored by {', '.join(lacking)}; choose another metric"


def _within_budget(request: _Request, folder: Path) -> Ranking:
    """Rank on more and more images until there is a clear winner.

    Every round is another chance to be wrong, so the error probability is divided among the rounds.
    """
    image_counts = _image_counts(_n_images(request, folder))
    corrected = replace(request, alpha=request.alpha / len(image_counts))
    for n_images in image_counts:
        part = replace(corrected, target=request.target.with_limit(n_images))
        ranking = _ranked(part, folder / f"images-{n_images}")
        if len(ranking.tied) == 1:
            break
    return replace(ranking, of_images=image_counts[-1])


def _n_images(request: _Request, folder: Path) -> int:
    """Return the number of images that the target has, up to its limit."""
    return len(_run(request, folder).low_shot(request.target.name))


def _image_counts(limit: int) -> list[int]:
    """Return the numbers of images to rank on: 10, 20, 40, ... and the limit."""
    image_counts = [FIRST_N_IMAGES]
    while image_counts[-1] < limit:
        image_counts.append(2 * image_counts[-1])
    return [*image_counts[:-1], limit]


def _stability(request: _Request, full_ranking: Ranking, folder: Path) -> pd.DataFrame:
    """Rank on fewer images and with other pixel samples; the result is also stored in the run folder."""
    import pandas as pd
    from scipy.stats import weightedtau

    full, rows = dict(zip(full_ranking.table["source"], full_ranking.table["score"], strict=True)), []
    limit = _n_images(request, folder)
    for n_images in [n for n in STABILITY_IMAGES if n < limit] + [limit]:
        for seed in range(request.seed, request.seed + N_STABILITY_SEEDS):
            part = replace(request, target=request.target.with_limit(n_images), seed=seed)
            ranking = _ranked(part, folder / f"images-{n_images}-seed-{seed}")
            both = [(full[source], score) for source, score in ranking.scores.items() if source in full]
            tau = float(weightedtau(*np.array(both).T).statistic) if len(both) > 1 else np.nan
            rows.append(
                {
                    "n_images": n_images,
                    "seed": seed,
                    "winner": ranking.best,
                    "tau_w_to_full": None if np.isnan(tau) else tau,
                    "n_tied": len(ranking.tied),
                }
            )
    write_rows(folder / "stability.parquet", STABILITY, rows)
    return pd.DataFrame(rows)
