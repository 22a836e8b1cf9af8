"""Ablations of the settings of GBC and of the pixel sample, which score a study with one setting changed.

Sources and fine-tuned performance come from the study's run folder. New scores are stored in its ``ablations/``, with
one run folder per sampling variant, and are reused while they are valid.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seg_transfer.engines.here import run_items
from seg_transfer.evaluation import SCENARIOS, compare_metrics, evaluate
from seg_transfer.metrics import Covariance, gbc
from seg_transfer.models.adapters.mmseg import MmsegEntry
from seg_transfer.models.entry import SourceEntry
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Item, pair_label
from seg_transfer.stages.context import ScoringContext, observe
from seg_transfer.stages.failures import for_each
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.stages.score_keys import score_key
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.source_card import FILE_NAME
from seg_transfer.store.tables import GBC_SETTINGS, SCORES, provenance, read_rows, write_rows
from seg_transfer.study.run import Run, prepare_folder

if TYPE_CHECKING:
    import pandas as pd

_logger = logging.getLogger(__name__)
DIMENSIONS: tuple[int | None, ...] = (16, 32, 64, 128, None)
COVARIANCES: tuple[Covariance, ...] = ("diagonal", "spherical", "full")
AS_IN_STUDY = "as-in-study"
# The metrics that one pass over a pair computes.
METRICS_OF_SAMPLES = ("gbc", "logme", "h_score", "leep")
_OF_STUDY = ", the study's own"


def sample_variants(images: Sequence[int]) -> dict[str, tuple[str, dict[str, Any], int | None]]:
    """List the sampling variants.

    Args:
        images: Numbers of target images.

    Returns:
        Name of a variant -> name of its ablation, changed sampling fields, and number of images (None means all).
    """
    pixels = {f"pixels-{n}": ("pixels per image", {"pixels_per_image": n}, None) for n in (100, 300, 1000, 3000)}
    balance = {f"balance-{kind}": ("balance", {"balance": kind}, None) for kind in ("dataset", "image", "none")}
    grid = {f"grid-{kind}": ("grid", {"grid": kind}, None) for kind in ("full", "feature")}
    return {**pixels, **balance, **grid, **{f"images-{n}": ("images", {}, n) for n in images}}


def ablate_samples(
    run: Run, performance: pd.DataFrame, *, images: Sequence[int] = (25, 50, 100, 150), device: str = "cpu"
) -> pd.DataFrame:
    """Evaluate how well the metrics rank with every sampling variant.

    Args:
        run: The study, whose sources are trained.
        performance: source, target, miou and n_target_classes of its fine-tuned pairs.
        images: Numbers of target images; a target that has fewer images uses all of them.
        device: Torch device of the networks.

    Returns:
        ``ablation`` and ``setting``, the columns of `seg_transfer.evaluation.evaluate`, and the columns of
        `compare_metrics` that compare the setting with the study's setting in tau_w: n_groups_compared, wins, ties,
        losses, mean_difference and its paired interval, share_first_better. The last ones are missing for a metric that
        the study lacks.
    """
    import pandas as pd

    study_pairs = performance.merge(_scores(run), on=["source", "target"])
    frames = []
    for name, (ablation, changes, n_images) in sample_variants(images).items():
        varied = _varied(run, name, changes, n_images)
        prepare_folder(varied)
        stage = STAGES["score"]
        run_items(stage, varied, stage.items(varied), ScoreSettings(device=device))
        pairs = performance.merge(_scores(varied), on=["source", "target"])
        frames.append(_evaluated(pairs, study_pairs, ablation, name.partition("-")[2]))
    return pd.concat(frames, ignore_index=True)


def ablate_gbc(run: Run, performance: pd.DataFrame, *, device: str = "cpu") -> pd.DataFrame:
    """Evaluate how well GBC ranks with every number of PCA dimensions and every form of covariance.

    Arguments and columns are as in `ablate_samples`.
    """
    import pandas as pd

    context = ScoringContext.for_run(run, device)
    pairs = [Item(entry.name, target) for entry, target in run.pairs if _is_known(performance, entry, target)]
    rows: list[dict[str, Any]] = []

    def add(item: Item) -> None:
        rows.extend(_gbc_rows(context, item))

    for_each(pairs, add, pair_label)
    study_pairs = performance.merge(_scores(run), on=["source", "target"])
    frames = []
    for (covariance, components), scored in pd.DataFrame(rows).groupby(["covariance", "n_components"], sort=False):
        named = scored[["source", "target", "score"]].rename(columns={"score": "gbc"})
        joined = performance.merge(named, on=["source", "target"])
        frames.append(_evaluated(joined, study_pairs, "covariance and PCA", f"{covariance}, {components or 'none'}"))
    return pd.concat(frames, ignore_index=True)


def _gbc_rows(context: ScoringContext, item: Item) -> list[dict[str, Any]]:
    """Return a pair's scores under all settings, read from the run folder if they are valid."""
    run, target = context.run, context.target(item.target)
    entry, file = run.study.source(item.source), run.folder / "ablations/gbc" / item.source / f"{item.target}.parquet"
    key = gbc_settings_key(context.observations_key(entry, target), [*DIMENSIONS, *COVARIANCES])
    stored = read_rows(file, GBC_SETTINGS)
    if stored and all(row["content_key"] == key for row in stored):
        return stored
    observations = observe(context, entry, target)
    assert observations.features is not None
    rows = [
        {
            "source": item.source,
            "target": item.target,
            "covariance": covariance,
            "n_components": components or 0,
            "score": gbc(observations.features, observations.labels, n_components=components, covariance=covariance),
            **provenance(0.0, key),
        }
        for covariance in COVARIANCES
        for components in DIMENSIONS
    ]
    write_rows(file, GBC_SETTINGS, rows)
    _logger.info("%s: GBC with %d settings", pair_label(item), len(rows))
    return rows


def gbc_settings_key(observations: Key, settings: Sequence[object]) -> Key:
    """Return the key of a pair's GBC scores under several settings."""
    return content_key(score=score_key(observations, "gbc", None), settings=settings)


def _varied(run: Run, name: str, changes: dict[str, Any], n_images: int | None) -> Run:
    """Return the study with a sampling variant, its own run folder, and the sources that are already trained."""
    sources = tuple(_trained(run, entry) for entry in run.study.sources)
    sampling = run.study.sampling.model_copy(update=changes)
    study = run.study.model_copy(
        update={"sources": sources, "sampling": sampling, "metrics": METRICS_OF_SAMPLES, "keep_features": False}
    )
    manifests = {dataset: manifest.with_limit(n_images) for dataset, manifest in run.manifests.items()}
    # The variant that equals the study belongs to several ablations and is scored once.
    folder_name = AS_IN_STUDY if sampling == run.study.sampling and n_images is None else name
    return replace(run, study=study, manifests=manifests, folder=run.folder / "ablations" / folder_name)


def _trained(run: Run, entry: SourceEntry) -> SourceEntry:
    if entry.kind != "study":
        return entry
    return MmsegEntry(name=entry.name, dataset=entry.dataset, config=run.source_folder(entry.name) / FILE_NAME)


def _scores(run: Run) -> pd.DataFrame:
    import pandas as pd

    rows = [row for entry, target in run.pairs for row in read_rows(run.scores_file(entry.name, target), SCORES)]
    wide = pd.DataFrame(rows).pivot(index=["source", "target"], columns="metric", values="score")
    return wide[[metric for metric in METRICS_OF_SAMPLES if metric in wide]].reset_index()


def _is_known(performance: pd.DataFrame, entry: SourceEntry, target: str) -> bool:
    return bool(((performance["source"] == entry.name) & (performance["target"] == target)).any())


def _evaluated(pairs: pd.DataFrame, study_pairs: pd.DataFrame, ablation: str, setting: str) -> pd.DataFrame:
    frame = evaluate(pairs, metrics=[metric for metric in METRICS_OF_SAMPLES if metric in pairs])
    frame.insert(0, "ablation", ablation)
    frame.insert(1, "setting", setting)
    metrics = frame[frame["kind"] == "metric"]
    return metrics.merge(_compared_with_study(pairs, study_pairs), on=["scenario", "metric"], how="left")


def _compared_with_study(pairs: pd.DataFrame, study_pairs: pd.DataFrame) -> pd.DataFrame:
    """Compare every metric in tau_w with the study's scores, paired over groups."""
    import pandas as pd

    metrics = [metric for metric in METRICS_OF_SAMPLES if metric in pairs and metric in study_pairs]
    names = ["source", "target", *metrics]
    both = pairs.merge(study_pairs[names], on=["source", "target"], suffixes=("", _OF_STUDY))
    names_of_both = [*metrics, *(metric + _OF_STUDY for metric in metrics)]
    frames = [
        compare_metrics(both, scenario=scenario, metrics=names_of_both).assign(scenario=scenario)
        for scenario in SCENARIOS
    ]
    compared = pd.concat(frames, ignore_index=True)
    compared = compared[compared["second"] == compared["first"] + _OF_STUDY].drop(columns=["second", "measure"])
    return compared.rename(columns={"first": "metric", "n_groups": "n_groups_compared"})
