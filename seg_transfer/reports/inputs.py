"""Reads the input of a report from a run folder, as plain frames and texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from seg_transfer.errors import ResultsError
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.sources import parse_entry
from seg_transfer.reports.performance import MIOU, Performance
from seg_transfer.store.explanations import read_explanation
from seg_transfer.store.run_results import RunResults, read_run
from seg_transfer.store.tables import ranking_file

_STABILITY_COLUMNS = ("n_images", "seed", "winner", "tau_w_to_full", "n_tied")


@dataclass(frozen=True)
class Explanation:
    """Frames that explain the score of a pair; a missing frame is None.

    Attributes:
        source: Name of the source.
        target: Name of the target.
        overlaps: class_a, class_b (names), overlap (in [0, 1]; 1: indistinguishable).
        classes: class_index, name, n_pixels.
        map: x, y and label of pixels in a plane.
        map_fine_tuned: The same after fine-tuning.
    """

    source: str
    target: str
    overlaps: pd.DataFrame | None = None
    classes: pd.DataFrame | None = None
    map: pd.DataFrame | None = None
    map_fine_tuned: pd.DataFrame | None = None


@dataclass(frozen=True)
class ReportInput:
    """The input of a report. Frames may be empty but always have their columns.

    Attributes:
        title: Title of the report.
        origin: Sentences that say what the numbers are and where they come from.
        created: Time of the newest result, UTC; "" if unknown.
        scores: Long format: source, target, metric, score, and if known standard_error, replicates, seconds, n_images,
            n_observations, n_classes, note, content_key, created_utc.
        miou: source, target, miou (mean over seeds); the sources may include scratch.
        pairs: Complete pairs in the form that `seg_transfer.evaluation` takes.
        performance: One row per fine-tuning: source, target, miou, seed, seconds, ...
        skipped: Sentences that say what was left out, and why.
        warnings: Sentences about individual metrics.
        sources: One row per source model.
        datasets: One row per dataset.
        settings: Dotted name of a setting -> its value.
        stability: n_images, seed, winner, tau_w_to_full, n_tied; None if not computed.
        explanations: Explanations of pairs.
        about_metrics: Whether the report compares metrics rather than recommending a model.
        measured: What the column miou holds.
    """

    title: str
    origin: tuple[str, ...]
    created: str
    scores: pd.DataFrame
    miou: pd.DataFrame
    pairs: pd.DataFrame
    performance: pd.DataFrame
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sources: pd.DataFrame = field(default_factory=pd.DataFrame)
    datasets: pd.DataFrame = field(default_factory=pd.DataFrame)
    settings: Mapping[str, str] = field(default_factory=dict)
    stability: pd.DataFrame | None = None
    explanations: tuple[Explanation, ...] = ()
    about_metrics: bool = False
    measured: Performance = MIOU


def run_input(folder: Path) -> ReportInput:
    """Read all results of a run folder, whose pairs are scored and may be fine-tuned.

    Args:
        folder: The run folder.

    Raises:
        ResultsError: The folder holds no study, no pair has valid scores, or a file is damaged.
        CheckpointError: A source card is damaged.
    """
    results = read_run(folder)
    if results.scores.empty:
        raise ResultsError(f"{folder}: no pair has valid scores; run score-pairs, then write the report")
    name = results.resolved["study"]["name"]
    stamps = [*results.scores["created_utc"], *results.performance["created_utc"]]
    return ReportInput(
        title=f"Study {name}: which source should be fine-tuned?",
        origin=(f"Run folder of the study {name}.",),
        created=max(map(str, stamps)),
        scores=results.scores,
        miou=results.miou,
        pairs=results.pairs,
        performance=results.performance,
        skipped=(*_unusable_sources(folder), *_skipped(results)),
        warnings=tuple(_notes(results.scores)),
        sources=_source_cards(results),
        datasets=_dataset_cards(results),
        settings=_settings(results.resolved),
        stability=_read_optional(folder / "stability.parquet", _STABILITY_COLUMNS),
        explanations=tuple(_explanations(folder, results.resolved)),
    )


def _skipped(results: RunResults) -> Iterator[str]:
    """Describe pairs without scores or fine-tuning, metrics left out, and pairs whose two results do not match."""
    n_pairs = len(results.unscored) + len(results.scores[["source", "target"]].drop_duplicates())
    if results.unscored:
        yield f"Without valid scores: {len(results.unscored)} of {n_pairs} pairs ({_shortened_list(results.unscored)})."
    if len(results.untuned) == n_pairs:
        yield "No pair is fine-tuned yet, so the ranking cannot be verified."
        return
    if results.untuned:
        yield f"Not fine-tuned: {len(results.untuned)} of {n_pairs} pairs ({_shortened_list(results.untuned)})."
    known = {*results.unscored, *results.untuned}
    others = [label for label in results.left_out if label not in known]
    if others:
        yield f"Left out of the evaluation: {_shortened_list(others)}."


def _unusable_sources(folder: Path) -> Iterator[str]:
    """Yield the sources that `rank` could not use, with the reasons."""
    file = ranking_file(folder)
    if not file.is_file():
        return
    try:
        skipped = json.loads(file.read_text(encoding="utf-8"))["skipped"].items()
    except (ValueError, KeyError, AttributeError) as error:
        raise ResultsError(f"{file}: damaged file ({error}); delete it or rank again") from error
    for name, reason in skipped:
        yield f"{name}: {reason}."


def _shortened_list(names: list[str], max_names: int = 6) -> str:
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more


def _notes(scores: pd.DataFrame) -> Iterator[str]:
    """Yield the notes of the scores, once per metric."""
    noted = scores[scores["note"].astype(bool)].drop_duplicates(["metric", "note"])
    for metric, rows in noted.groupby("metric", sort=False):
        more = f" (and {len(rows) - 1} similar notes)" if len(rows) > 1 else ""
        yield f"{metric}: {rows['note'].iloc[0]}{more}."


def _source_cards(results: RunResults) -> pd.DataFrame:
    cards = {card.source: card for card in results.cards}
    rows = []
    for source in results.resolved["study"]["sources"]:
        card = cards.get(source["name"])
        entry = _entry(source)
        facts_of_card = (card.miou, card.steps, card.n_train_images, card.seconds, card.sha256) if card else (None,) * 5
        miou, steps, n_train_images, seconds, sha256 = facts_of_card
        rows.append(
            {
                "source": source["name"],
                "dataset": source["dataset"],
                "config": Path(card.config).name if card else entry.network_name,
                "checkpoint": entry.weights_file.name if entry.weights_file else None,
                "initialisation": card.initialisation if card else None,
                "steps": steps,
                "n_train_images": n_train_images,
                "own_miou": miou,
                **_cost_facts(results, entry),
                "seconds": seconds,
                "sha256": sha256,
            }
        )
    return pd.DataFrame(rows)


def _cost_facts(results: RunResults, entry: SourceEntry) -> dict[str, Any]:
    costs = results.costs.get(entry.name)
    known = {name: costs and getattr(costs, name) for name in ("family", "parameters", "gflops")}
    return {**known, "license": entry.license}


def _entry(source: Mapping[str, Any]) -> SourceEntry:
    """Parse a source of the study; keeps only name and dataset if this installation does not know its kind of model."""
    try:
        return parse_entry(source)
    except ValidationError:
        return SourceEntry(name=source["name"], dataset=source["dataset"])


def _dataset_cards(results: RunResults) -> pd.DataFrame:
    scores, targets = results.scores, results.resolved["study"]["targets"]
    images = scores.groupby("target")["n_images"].max()
    pixels = scores.groupby("target")["n_observations"].max()
    rows = []
    for name, manifest in results.resolved["manifests"].items():
        rows.append(
            {
                "dataset": name,
                "title": manifest["title"],
                "domain": manifest["domain"],
                "is_target": "yes" if name in targets else "no",
                "n_classes": len(manifest["classes"]),
                "classes": ", ".join(manifest["classes"]),
                "n_images": images.get(name),
                "n_observations": pixels.get(name),
                "licence": manifest["licence"],
                "citation": manifest["citation"],
                "notes": manifest["notes"],
            }
        )
    return pd.DataFrame(rows)


def _settings(resolved: Mapping[str, Any]) -> dict[str, str]:
    parts = {"study": resolved["study"], "fine_tuning_schedule": resolved.get("fine_tuning_schedule") or {}}
    return {name: text for part, value in parts.items() for name, text in _dotted_settings(part, value)}


def _dotted_settings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested mappings and lists; a list of plain values is one leaf."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _dotted_settings(f"{name}.{key}", item)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _dotted_settings(f"{name}.{index}", item)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "not set" if value is None else str(value)


def _explanations(folder: Path, resolved: Mapping[str, Any]) -> Iterator[Explanation]:
    """Yield the explanations that match the study's settings, with class names."""
    for target in resolved["study"]["targets"]:
        for source in (entry["name"] for entry in resolved["study"]["sources"]):
            frames = read_explanation(folder, source, target, resolved=resolved)
            if frames is not None:
                names = frames["classes"].set_index("class_index")["name"]
                overlaps = frames["overlaps"]
                named = {end: overlaps[end].map(names) for end in ("class_a", "class_b")}
                yield Explanation(source, target, **{**frames, "overlaps": overlaps.assign(**named)})


def _read_optional(file: Path, columns: tuple[str, ...]) -> pd.DataFrame | None:
    """Read an optional file of a run folder; raises ResultsError if it is damaged or lacks a column."""
    if not file.is_file():
        return None
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            frame: pd.DataFrame = opened.read(use_threads=False).to_pandas()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{file}: damaged file ({reason}); delete it and compute it again") from error
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ResultsError(f"{file}: lacks column {missing[0]}; delete it and compute it again")
    return frame
