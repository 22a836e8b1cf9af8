"""All results of a run folder as one frame of pairs."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import yaml

from seg_transfer.errors import ResultsError
from seg_transfer.store.tables import PERFORMANCE, SCORES, read_rows

_SCRATCH = "scratch"


def read_pairs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Scores and actual performance of the pairs that have both.

    Returns:
        One row per pair: source, target, miou (mean over fine-tuning seeds), n_target_classes, one column per
        metric of the study; and rows with source ``scratch``, which have no scores. Then the pairs of the study that
        were left out because something of theirs is missing.

    Raises:
        ResultsError: The folder holds no study, a file is damaged, or no pair is complete.
    """
    study, manifests = _resolved_study(folder)
    rows, incomplete = [], []
    for source in study["sources"]:
        for target in study["targets"]:
            if source["dataset"] == target:
                continue
            row = _pair(folder, study, source["name"], target, len(manifests[target]["classes"]))
            if row is None:
                incomplete.append(f"{source['name']} -> {target}")
            else:
                rows.append(row)
    if not rows:
        raise ResultsError(f"{folder}: no pair has all scores and a performance; run score-pairs and finetune-pairs")
    return pd.DataFrame(rows + _scratch_rows(folder, study)), incomplete


def _resolved_study(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    file = folder / "study.yaml"
    try:
        resolved = yaml.safe_load(file.read_text(encoding="utf-8"))
        return resolved["study"], resolved["manifests"]
    except FileNotFoundError as error:
        raise ResultsError(f"{file}: no such file; name the run folder of a study") from error
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ResultsError(f"{file}: not the resolved study of a run; run any stage of the study again") from error


def _pair(folder: Path, study: dict[str, Any], source: str, target: str, n_classes: int) -> dict[str, Any] | None:
    rows = read_rows(folder / "scores" / source / f"{target}.parquet", SCORES)
    scores = {row["metric"]: row["score"] for row in rows}
    miou = _miou(folder, study, source, target)
    if miou is None or any(metric not in scores for metric in study["metrics"]):
        return None
    chosen = {metric: scores[metric] for metric in study["metrics"]}
    return {"source": source, "target": target, "miou": miou, "n_target_classes": n_classes, **chosen}


def _miou(folder: Path, study: dict[str, Any], source: str, target: str) -> float | None:
    """Mean over the study's seeds, None where one is missing; seeds that the study no longer has do not count."""
    rows = read_rows(folder / "performance" / source / f"{target}.parquet", PERFORMANCE)
    of_seed = {row["seed"]: float(row["miou"]) for row in rows}
    tuning = study.get("fine_tuning")
    seeds = set(tuning["seeds"]) if tuning else set(of_seed)
    return fmean(of_seed[seed] for seed in seeds) if seeds and seeds <= of_seed.keys() else None


def _scratch_rows(folder: Path, study: dict[str, Any]) -> list[dict[str, Any]]:
    found = {target: _miou(folder, study, _SCRATCH, target) for target in study["targets"]}
    return [{"source": _SCRATCH, "target": target, "miou": miou} for target, miou in found.items() if miou is not None]
