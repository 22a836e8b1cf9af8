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
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seg_transfer.errors import ConfigError
from seg_transfer.evaluation import Ranking
from seg_transfer.metrics import METRICS
from seg_transfer.models.devices import chosen_device
from seg_transfer.models.entry import SourceEntry
from seg_transfer.selection.source_scores import Request, n_images_of, rank_scored
from seg_transfer.selection.target import Target, target_manifest
from seg_transfer.store.atomic import write_text
from seg_transfer.store.tables import STABILITY, ranking_file, write_rows
from seg_transfer.study.bank import SourceSpec, read_sources

if TYPE_CHECKING:
    import pandas as pd

FIRST_N_IMAGES = 10
STABILITY_IMAGES = (10, 25, 50, 100, 150)
N_STABILITY_SEEDS = 3


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
        request = request_of(target, sources, metric, images, Path(data_root))
        request = replace(request, seed=seed, device=chosen_device(device))
        began = time.monotonic()
        ranking = _within_budget(request, folder) if budget else rank_scored(request, folder)
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


def request_of(
    target: Target, sources: Sequence[SourceSpec] | SourceSpec, metric: str, images: int | None, data_root: Path
) -> Request:
    """Return the request to rank sources for a target; arguments and errors as in `rank_sources`."""
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
    return Request(manifest, root, left, skipped, metric)


def _within_budget(request: Request, folder: Path) -> Ranking:
    """Rank on more and more images until every family of networks has a clear winner.

    Every round is another chance to be wrong, so the error probability is divided among the rounds.
    """
    image_counts = _image_counts(n_images_of(request, folder))
    corrected = replace(request, alpha=request.alpha / len(image_counts))
    for n_images in image_counts:
        part = replace(corrected, target=request.target.with_limit(n_images))
        ranking = rank_scored(part, folder / f"images-{n_images}")
        if ranking.tied == ranking.best_of_families:
            break
    return replace(ranking, of_images=image_counts[-1])


def _image_counts(limit: int) -> list[int]:
    """Return the numbers of images to rank on: 10, 20, 40, ... and the limit."""
    image_counts = [FIRST_N_IMAGES]
    while image_counts[-1] < limit:
        image_counts.append(2 * image_counts[-1])
    return [*image_counts[:-1], limit]


def _stability(request: Request, full_ranking: Ranking, folder: Path) -> pd.DataFrame:
    """Rank on fewer images and with other pixel samples; the result is also stored in the run folder."""
    import pandas as pd
    from scipy.stats import weightedtau

    full, rows = dict(zip(full_ranking.table["source"], full_ranking.table["score"], strict=True)), []
    limit = n_images_of(request, folder)
    for n_images in [n for n in STABILITY_IMAGES if n < limit] + [limit]:
        for seed in range(request.seed, request.seed + N_STABILITY_SEEDS):
            limited = request.target.with_limit(n_images)
            part = replace(request, target=limited, seed=seed, with_linear_head=False)
            ranking = rank_scored(part, folder / f"images-{n_images}-seed-{seed}")
            both = [(full[source], score) for source, score in ranking.scores.items() if source in full]
            tau = float(weightedtau(*np.array(both).T).statistic) if len(both) > 1 else np.nan
            rows.append(
                {
                    "n_images": n_images,
                    "seed": seed,
                    "winner": ", ".join(ranking.best_of_families),
                    "tau_w_to_full": None if np.isnan(tau) else tau,
                    "n_tied": len(ranking.tied),
                }
            )
    write_rows(folder / "stability.parquet", STABILITY, rows)
    return pd.DataFrame(rows)
