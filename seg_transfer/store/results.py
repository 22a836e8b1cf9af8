"""Reads the results of a run folder as one frame of pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Self

import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError, model_validator

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.data.plain import read_yaml
from seg_transfer.data.validation import one_line
from seg_transfer.errors import ConfigError, ResultsError
from seg_transfer.metrics import METRICS
from seg_transfer.resources import shipped
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.source_facts import known_for_all, source_facts
from seg_transfer.store.tables import PERFORMANCE, SCORES, metadata_of, performance_file, read_table, scores_file

if TYPE_CHECKING:
    import pandas as pd

_SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_HEAD = ("source", "target", "miou", "n_target_classes")
_SOURCE_IMAGES_KEY = "source_images_key"
_SCHEMAS = {"scores": SCORES, "performance": PERFORMANCE}


def read_pairs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read scores and actual performance of the pairs that have both.

    Args:
        folder: The run folder.

    Returns:
        First, a frame with one row per pair: source, target, miou (mean over fine-tuning seeds), n_target_classes, the
        `SOURCE_FACTS` that are known for all sources, and one column per metric of the study; it includes rows with
        source ``scratch``, which have no scores. Second, what was left out: metrics that need the sources' own images,
        if a source has no such score on any target; and pairs with anything else missing, or with results of other
        settings or weights.

    Raises:
        ResultsError: The folder holds no study, a file is damaged, or no pair is complete.
    """
    pairs, left_out = complete_pairs(folder)
    if pairs.empty:
        raise ResultsError(
            f"{folder}: no pair has all scores and an actual performance; run score-pairs and finetune-pairs"
        )
    return pairs, left_out


def complete_pairs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Do the same as `read_pairs`, but return an empty frame if no pair is complete yet."""
    import pandas as pd  # imported here because it takes half a second and the stages do not need it

    resolved = resolved_study(folder)
    rows_by_pair = _rows_by_pair(folder, resolved)
    lacking = _sources_lacking(resolved["study"]["metrics"], [row for row in rows_by_pair.values() if row is not None])
    columns = [*_HEAD, *(metric for metric, sources in lacking.items() if not sources)]
    complete = {label: row for label, row in rows_by_pair.items() if row is not None and row.keys() >= set(columns)}
    left_out = [f"{metric} (no score of {', '.join(sources)})" for metric, sources in lacking.items() if sources]
    left_out += [label for label in rows_by_pair if label not in complete]
    if not complete or len(columns) == len(_HEAD):
        return pd.DataFrame(columns=columns), left_out
    columns[len(_HEAD) : len(_HEAD)] = known_for_all(complete.values())
    rows = [{name: row[name] for name in columns} for row in complete.values()]
    return pd.DataFrame(rows + _scratch_rows(folder, resolved)), left_out


def read_performance(folder: Path) -> pd.DataFrame:
    """Read the actual performance of the scored pairs, even of those that lack metrics of the study.

    Args:
        folder: The run folder.

    Returns:
        source, target, miou (mean over fine-tuning seeds) and n_target_classes. Pairs whose scores and performance
        are of different weights are left out, and so is the source ``scratch``.

    Raises:
        ResultsError: The folder holds no study, a file is damaged, or no pair is left.
    """
    import pandas as pd

    rows = [row for row in _rows_by_pair(folder, resolved_study(folder)).values() if row is not None]
    if not rows:
        raise ResultsError(f"{folder}: no pair has scores and a fine-tuned mIoU; run score-pairs and finetune-pairs")
    return pd.DataFrame(rows)[list(_HEAD)]


def needs_source_images(metric: str) -> bool:
    """Whether a metric uses the images that a source was trained on."""
    return metric in METRICS and "source_images" in METRICS[metric].needs


def source_images_origin(resolved: Mapping[str, Any], dataset: str) -> dict[str, str]:
    """Return metadata for a file of scores: the key of the settings that decide how the source's own images are read.

    Args:
        resolved: The resolved study.
        dataset: Dataset of the source.
    """
    known = dataset in resolved["manifests"]
    return {_SOURCE_IMAGES_KEY: settings_key("scores", resolved, dataset) if known else ""}


def _sources_lacking(metrics: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the sources that lack each metric, because it needs their own images and no target has a score of it."""
    scored: dict[str, set[str]] = {}
    for row in rows:
        scored.setdefault(row["source"], set()).update(row)
    return {
        metric: [source for source, names in scored.items() if needs_source_images(metric) and metric not in names]
        for metric in metrics
    }


class _Source(BaseModel):
    # Names become names of folders and files.
    name: Annotated[str, Field(pattern=_SAFE_NAME)]
    dataset: str


class _Study(BaseModel):
    sources: list[_Source]
    targets: list[Annotated[str, Field(pattern=_SAFE_NAME)]]
    metrics: list[str]


class _Manifest(BaseModel):
    classes: list[str]


class _Resolved(BaseModel):
    """The required fields of a resolved study, which may come from another version or an untrusted source."""

    study: _Study
    manifests: dict[str, _Manifest]

    @model_validator(mode="after")
    def _manifest_of_every_target(self) -> Self:
        missing = next((target for target in self.study.targets if target not in self.manifests), None)
        if missing is not None:
            raise ValueError(f"manifests lacks the target {missing!r}")
        return self


def resolved_study(folder: Path) -> dict[str, Any]:
    """Read the resolved study of a run folder.

    Raises:
        ResultsError: The folder holds no resolved study, or the file is damaged.
    """
    file = folder / "study.yaml"
    if not file.is_file():
        raise ResultsError(f"{file}: no such file; name the run folder of a study")
    try:
        resolved: Any = read_yaml(file)
        _Resolved.model_validate(resolved)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{file}").removeprefix(": ")
        raise ResultsError(f"{file}: not the resolved study of a run ({reason}); run any stage again") from error
    except ValidationError as error:
        reason = one_line(error, resolved)
        raise ResultsError(f"{file}: not the resolved study of a run ({reason}); run any stage again") from error
    content: dict[str, Any] = resolved
    return content


def _rows_by_pair(folder: Path, resolved: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    return {
        f"{source['name']} -> {target}": _pair(folder, resolved, source, target)
        for source in resolved["study"]["sources"]
        for target in resolved["study"]["targets"]
        if source["dataset"] != target
    }


def _pair(folder: Path, resolved: dict[str, Any], source: dict[str, Any], target: str) -> dict[str, Any] | None:
    """Return the row of a pair with the scores that it has; None if its results are missing, or do not match.

    Scores and performance must belong to the study's settings and to the same weights.
    """
    name = source["name"]
    scored = results_of("scores", resolved, scores_file(folder, name, target), target)
    tuned = results_of("performance", resolved, performance_file(folder, name, target), target)
    if scored is None or tuned is None or metadata_of(scored, "source_key") != metadata_of(tuned, "source_key"):
        return None
    miou = miou_of(resolved, tuned)
    if miou is None:
        return None
    n_classes = len(resolved["manifests"][target]["classes"])
    head = {"source": name, "target": target, "miou": miou, "n_target_classes": n_classes}
    facts = source_facts(folder, source, metadata_of(scored, "source_key"))
    return (
        head
        | facts
        | {row["metric"]: row["score"] for row in valid_scores(folder, scored, resolved, source["dataset"])}
    )


def valid_scores(folder: Path, scored: pa.Table, resolved: Mapping[str, Any], dataset: str) -> list[dict[str, Any]]:
    """Select the valid rows of a file of scores.

    Scores by another version of their metric are left out, except from a published study, which stays what it was; and
    so are scores that used the source's own images under other settings.

    Args:
        folder: The run folder.
        scored: The file of scores.
        resolved: The resolved study.
        dataset: Dataset of the source.
    """
    same_images = metadata_of(scored, _SOURCE_IMAGES_KEY) == source_images_origin(resolved, dataset)[_SOURCE_IMAGES_KEY]
    parts = parts_in(metadata_of(scored, KEY_PARTS))
    rows = [row for row in scored.to_pylist() if same_images or not needs_source_images(row["metric"])]
    if _is_published(folder):
        return rows
    return [row for row in rows if _is_of_this_version(row["metric"], parts.get(row["metric"], {}))]


def _is_published(folder: Path) -> bool:
    return folder.resolve().is_relative_to(shipped("data_manifests/published").resolve())


def _is_of_this_version(metric: str, parts: Mapping[str, str]) -> bool:
    """Whether a score is by the current version of its metric, or its version was not recorded."""
    return metric not in METRICS or parts.get("version") in (None, str(METRICS[metric].version))


def results_of(kind: str, resolved: dict[str, Any], file: Path, target: str) -> pa.Table | None:
    """Read a result file; None if it does not exist or does not match the study's settings.

    Args:
        kind: "scores" or "performance".
        resolved: The resolved study.
        file: The file.
        target: Name of the target.

    Raises:
        ResultsError: The file is damaged.
    """
    if not file.exists():
        return None
    table = read_table(file, _SCHEMAS[kind])
    expected = settings_key(kind, resolved, target, file.parent.name)
    return table if metadata_of(table, "settings_key") == expected else None


def miou_of(resolved: dict[str, Any], tuned: pa.Table) -> float | None:
    """Return the mean mIoU over the seeds of a study, in [0, 1]; None if a seed is missing. Ignores other seeds."""
    miou_by_seed = {row["seed"]: float(row["miou"]) for row in tuned.to_pylist()}
    named = study_seeds(resolved)
    seeds = set(miou_by_seed) if named is None else named
    return fmean(miou_by_seed[seed] for seed in seeds) if seeds and seeds <= miou_by_seed.keys() else None


def study_seeds(resolved: Mapping[str, Any]) -> set[int] | None:
    """Return the fine-tuning seeds of a study; None where it names none, and every seed counts."""
    tuning = resolved["study"].get("fine_tuning")
    return set(tuning["seeds"]) if tuning else None


def _scratch_rows(folder: Path, resolved: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for target in resolved["study"]["targets"]:
        tuned = results_of("performance", resolved, performance_file(folder, SCRATCH, target), target)
        miou = None if tuned is None else miou_of(resolved, tuned)
        if miou is not None:
            rows.append({"source": SCRATCH, "target": target, "miou": miou})
    return rows
