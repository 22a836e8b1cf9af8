"""Scores a pair of a study; each image of a target is decoded once for all its sources."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import SegTransferError
from seg_transfer.metrics import METRICS, Score, score_all
from seg_transfer.observations import Observations
from seg_transfer.stages.base import IsHeld, Item, Rest, pair_label, part_label
from seg_transfer.stages.constant_features import constant_input_failures, warn_of_constant_features
from seg_transfer.stages.context import ScoringContext, n_bytes_of, observe
from seg_transfer.stages.failures import PartsFailedError, catch_failures
from seg_transfer.stages.pipeline import in_flight
from seg_transfer.stages.score_keys import (
    metrics_requiring_features,
    metrics_requiring_probabilities,
    metrics_requiring_source_images,
    uninstalled_metrics,
)
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_entry, parts_in
from seg_transfer.store.results import needs_source_images, source_images_origin
from seg_transfer.store.tables import SCORES, metadata_of, provenance, read_rows, read_table, write_rows
from seg_transfer.study.run import Run

_logger = logging.getLogger(__name__)


def log_skipped_metrics(context: ScoringContext, items: Iterable[Item]) -> None:
    """Log which metrics are skipped, because a library is not installed or the source lacks what they need."""
    run = context.run
    for name in uninstalled_metrics(run):
        _logger.info("metric %s needs a library: pip install 'seg_transfer[%s]'; skipped", name, METRICS[name].extra)
    for entry in map(run.study.source, dict.fromkeys(item.source for item in items)):
        if skipped := metrics_requiring_source_images(run, entry, context.unavailable):
            reason = context.unavailable(entry)
            _logger.info("source %s: its own images are %s; skipped %s", entry.name, reason, ", ".join(skipped))
        if skipped := metrics_requiring_features(run, entry):
            _logger.info("source %s: scores_only, its features are unknown; skipped %s", entry.name, ", ".join(skipped))
        if skipped := metrics_requiring_probabilities(run, entry):
            _logger.info(
                "source %s: a backbone without a head, it has no class probabilities; skipped %s",
                *(entry.name, ", ".join(skipped)),
            )


@dataclass(frozen=True)
class _ObservedPair:
    """A pair that is to be scored, with all that its file needs from the context, which goes on to the next pair.

    Attributes:
        item: The pair.
        observations: Its observations.
        source_images: The observations of the source's own images, or why there are none; None if no metric needs them.
        names: The missing metrics that can be computed.
        failed: The others, and the reasons.
        key: Key of the observations.
        score_keys: Key of the score of each missing metric.
        valid: The stored rows that stay.
        origin: Metadata of its file.
        seconds: How long this took.
    """

    item: Item
    observations: Observations
    source_images: Observations | SegTransferError | None
    names: list[str]
    failed: dict[str, SegTransferError]
    key: Key
    score_keys: dict[str, Key]
    valid: dict[str, dict[str, Any]]
    origin: dict[str, str]
    seconds: float


def score_pair(context: ScoringContext, item: Item, is_held: IsHeld) -> Rest | None:
    """Observe a pair, compute its missing scores and store them in its Parquet file.

    Returns:
        What computes and stores the scores, where the network may observe the next pair meanwhile; otherwise None, and
        all is done.

    Raises:
        PartsFailedError: Some metrics failed; the scores of the others are stored. What is returned raises it, too.
    """
    pair = _observed_pair(context, item)
    if pair is None:
        return None
    score = partial(_score, context.run, pair, is_held)
    if context.scores_beside:
        return in_flight(score, n_bytes_of(pair.observations), context.in_flight, context.device)
    score()
    return None


def _observed_pair(context: ScoringContext, item: Item) -> _ObservedPair | None:
    """Observe a pair; returns None if no score is missing."""
    entry, target = context.run.study.source(item.source), item.target
    valid = _valid_rows(context, item)
    missing = _missing_metrics(context, item)
    if not missing:
        return None
    began, failed = context.in_flight.clock(), dict[str, SegTransferError]()
    # Computed first, so that it does not share memory with all of the target's observations.
    source_images = context.source_images(entry) if any(map(needs_source_images, missing)) else None
    others = [other for other in context.other_readings(entry) if _missing_metrics(context, Item(other.name, target))]
    observations = observe(context, entry, context.target(target), others)
    warn_of_constant_features(item, observations, context.warned_sources)
    failed |= constant_input_failures(item, observations, [METRICS[name] for name in missing])
    observations = _with_class_pixels(context, target, observations, missing, failed)
    key = context.observations_key(entry, context.target(target))
    origin = context.run.origin("scores", target, context.source_key(entry), entry.name)
    return _ObservedPair(
        item,
        observations,
        source_images,
        [name for name in missing if name not in failed],
        failed,
        key,
        {name: context.score_key(entry, key, name) for name in missing},
        valid,
        origin | source_images_origin(context.run.resolved, entry.dataset),
        context.in_flight.clock() - began,
    )


def _score(run: Run, pair: _ObservedPair, is_held: IsHeld) -> None:
    """Compute and store the scores of a pair; needs nothing that other pairs change."""
    began = time.monotonic()
    scores = _scores(pair.observations, pair.source_images, pair.names, pair.failed)
    if scores and is_held():
        _store(run, pair, scores, pair.seconds + time.monotonic() - began)
    if pair.failed:
        raise PartsFailedError({part_label(pair.item, metric): error for metric, error in pair.failed.items()})


def _with_class_pixels(
    context: ScoringContext,
    target: str,
    observations: Observations,
    names: Sequence[str],
    failed: dict[str, SegTransferError],
) -> Observations:
    """Add the labeled pixels of every class where a metric needs them; label maps that fail cost only that metric."""
    needing, counted = [name for name in names if "class_pixels" in METRICS[name].needs], list[npt.NDArray[np.int64]]()
    if not needing:
        return observations
    error = catch_failures(lambda: counted.append(context.target(target).class_pixels), target).get(target)
    if error is not None:
        failed.update(dict.fromkeys(needing, error))
        return observations
    return replace(observations, class_pixels=counted[0][observations.classes])


def _store(run: Run, pair: _ObservedPair, scores: Mapping[str, Score], seconds: float) -> None:
    """Write the new scores of a pair, and keep its valid ones."""
    item, file = pair.item, run.scores_file(pair.item.source, pair.item.target)
    rows = pair.valid | {
        name: _row(item, name, score, pair.observations, seconds, pair.score_keys[name])
        for name, score in scores.items()
    }
    rows |= _rows_of_uninstalled_metrics(file, pair.key)
    origin = pair.origin | parts_entry({name: row["content_key"].parts for name, row in rows.items()})
    names = [*filter(rows.__contains__, METRICS), *sorted(rows.keys() - METRICS.keys())]  # in the order of METRICS
    write_rows(file, SCORES, [rows[name] for name in names], origin)
    shown = ", ".join(f"{name} {score.score:.4g}" for name, score in scores.items())
    _logger.info("%s: %s (%s)", pair_label(item), shown, "; ".join([f"{seconds:.1f} s", *_notes(scores)]))


def _rows_of_uninstalled_metrics(file: Path, observations: Key) -> dict[str, dict[str, Any]]:
    """Return stored scores of the same observations by metrics whose packages are not installed here."""
    table = read_table(file, SCORES) if file.exists() else SCORES.empty_table()
    parts = parts_in(metadata_of(table, KEY_PARTS))
    key_parts = content_key(observations=observations).parts
    observation_parts = {name: text for name, text in key_parts.items() if name.startswith("observations.")}.items()
    absent = [row for row in table.to_pylist() if row["metric"] not in METRICS]
    by_metric = {row["metric"]: (row, parts.get(row["metric"], {})) for row in absent}
    return {
        name: {**row, "content_key": Key(row["content_key"], row_parts)}
        for name, (row, row_parts) in by_metric.items()
        if observation_parts <= row_parts.items()
    }


def _notes(scores: Mapping[str, Score]) -> list[str]:
    """Return each note once, preceded by the names of its metrics."""
    notes = dict.fromkeys(score.note for score in scores.values() if score.note)
    return [f"{', '.join(name for name in scores if scores[name].note == note)} {note}" for note in notes]


def _scores(
    observations: Observations,
    source_images: Observations | SegTransferError | None,
    names: Sequence[str],
    failed: dict[str, SegTransferError],
) -> dict[str, Score]:
    """Compute all metrics at once; if one fails, compute them one by one to keep those that succeed."""
    if isinstance(source_images, SegTransferError):
        failed.update(dict.fromkeys(filter(needs_source_images, names), source_images))
        names = [name for name in names if name not in failed]
    elif source_images is not None:
        observations = replace(observations, source_images=source_images)
    scores: dict[str, Score] = {}

    def score(metrics: Sequence[str]) -> None:
        scores.update(score_all(observations, metrics))

    if catch_failures(partial(score, names), "all metrics at once"):
        for name in names:
            failed |= catch_failures(partial(score, [name]), name)
    return scores


def _valid_rows(context: ScoringContext, item: Item) -> dict[str, dict[str, Any]]:
    """Return the stored scores of a pair whose content keys are still valid."""
    entry, target = context.run.study.source(item.source), item.target
    key = context.observations_key(entry, context.target(target))
    rows = read_rows(context.run.scores_file(entry.name, target), SCORES)
    by_metric = {row["metric"]: (row, context.score_key(entry, key, row["metric"])) for row in rows}
    return {name: {**row, "content_key": key} for name, (row, key) in by_metric.items() if row["content_key"] == key}


def _missing_metrics(context: ScoringContext, item: Item) -> list[str]:
    valid = _valid_rows(context, item)
    return [name for name in context.available_metrics(context.run.study.source(item.source)) if name not in valid]


def _row(item: Item, metric: str, score: Score, observations: Observations, seconds: float, key: Key) -> dict[str, Any]:
    return {
        "source": item.source,
        "target": item.target,
        "metric": metric,
        "score": score.score,
        "standard_error": score.standard_error,
        "replicates": list(score.replicates),
        "note": score.note,
        "n_observations": len(observations.labels),
        "n_images": len(np.unique(_not_none(observations.image_index))),
        "n_classes": len(observations.classes),
        "n_source_classes": 0 if observations.source_probs is None else observations.source_probs.shape[1],
        **provenance(seconds, key),
    }


def _not_none(array: Any) -> Any:
    assert array is not None
    return array
