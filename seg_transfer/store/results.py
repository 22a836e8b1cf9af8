"""All results of a run folder as one frame of pairs."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.errors import ResultsError
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.tables import PERFORMANCE, SCORES, metadata_of, performance_file, read_table, scores_file

_SCHEMAS = {"scores": SCORES, "performance": PERFORMANCE}


def read_pairs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Scores and actual performance of the pairs that have both.

    Returns:
        One row per pair: source, target, miou (mean over fine-tuning seeds), n_target_classes, one column per
        metric of the study; and rows with source ``scratch``, which have no scores. Then the pairs of the study that
        were left out, because something of theirs is missing or comes from other settings or other weights.

    Raises:
        ResultsError: The folder holds no study, a file is damaged, or no pair is complete.
    """
    resolved = _resolved_study(folder)
    rows, incomplete = [], []
    for source in resolved["study"]["sources"]:
        for target in resolved["study"]["targets"]:
            if source["dataset"] == target:
                continue
            row = _pair(folder, resolved, source["name"], target)
            if row is None:
                incomplete.append(f"{source['name']} -> {target}")
            else:
                rows.append(row)
    if not rows:
        raise ResultsError(f"{folder}: no pair has all scores and a performance; run score-pairs and finetune-pairs")
    return pd.DataFrame(rows + _scratch_rows(folder, resolved)), incomplete


def _resolved_study(folder: Path) -> dict[str, Any]:
    file = folder / "study.yaml"
    try:
        resolved: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not all(isinstance(resolved[name], dict) for name in ("study", "manifests")):
            raise TypeError("study and manifests must be mappings")
    except FileNotFoundError as error:
        raise ResultsError(f"{file}: no such file; name the run folder of a study") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{file}: not the resolved study of a run; run any stage of the study again") from error
    return resolved


def _pair(folder: Path, resolved: dict[str, Any], source: str, target: str) -> dict[str, Any] | None:
    """The row of a pair; None where it lacks results that belong to the study, and to one another."""
    scored = _results("scores", resolved, scores_file(folder, source, target), target)
    tuned = _results("performance", resolved, performance_file(folder, source, target), target)
    if scored is None or tuned is None or metadata_of(scored, "source_key") != metadata_of(tuned, "source_key"):
        return None
    scores = {row["metric"]: row["score"] for row in scored.to_pylist()}
    metrics, miou = resolved["study"]["metrics"], _miou(resolved, tuned)
    if miou is None or any(metric not in scores for metric in metrics):
        return None
    n_classes = len(resolved["manifests"][target]["classes"])
    chosen = {metric: scores[metric] for metric in metrics}
    return {"source": source, "target": target, "miou": miou, "n_target_classes": n_classes, **chosen}


def _results(kind: str, resolved: dict[str, Any], file: Path, target: str) -> pa.Table | None:
    """A file of results; None where there is none, or it comes from other settings than the study's."""
    if not file.exists():
        return None
    table = read_table(file, _SCHEMAS[kind])
    return table if metadata_of(table, "settings_key") == settings_key(kind, resolved, target) else None


def _miou(resolved: dict[str, Any], tuned: pa.Table) -> float | None:
    """Mean over the study's seeds, None where one is missing; seeds that the study no longer has do not count."""
    of_seed = {row["seed"]: float(row["miou"]) for row in tuned.to_pylist()}
    tuning = resolved["study"].get("fine_tuning")
    seeds = set(tuning["seeds"]) if tuning else set(of_seed)
    return fmean(of_seed[seed] for seed in seeds) if seeds and seeds <= of_seed.keys() else None


def _scratch_rows(folder: Path, resolved: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for target in resolved["study"]["targets"]:
        tuned = _results("performance", resolved, performance_file(folder, SCRATCH, target), target)
        miou = None if tuned is None else _miou(resolved, tuned)
        if miou is not None:
            rows.append({"source": SCRATCH, "target": target, "miou": miou})
    return rows
