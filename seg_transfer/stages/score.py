"""Scoring the pairs of a study: target by target, each image decoded and sampled once for all its sources."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from seg_transfer.engines.claims import Held, for_each_claimed
from seg_transfer.errors import CheckpointError, SegTransferError
from seg_transfer.metrics import METRICS, Score, score_all
from seg_transfer.observations import Observations
from seg_transfer.stages import keys
from seg_transfer.stages.context import Bench, observations_of
from seg_transfer.stages.items import featureless, metrics_of, pair_lease, skipped_metrics, uninstalled_metrics
from seg_transfer.store.content_key import Key
from seg_transfer.store.key_parts import parts_entry
from seg_transfer.store.results import needs_source_images, source_images_origin
from seg_transfer.store.tables import SCORES, SCORES_LAYOUT, provenance, read_rows, write_rows
from seg_transfer.study.definition import SourceEntry
from seg_transfer.study.run import (
    WHOLE,
    Pair,
    PartsFailedError,
    Run,
    Say,
    Shard,
    failures_of,
    metric_label,
    pair_label,
    share,
    wanted_pairs,
)


def score_pairs(
    run: Run,
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    shard: Shard = WHOLE,
    device: str = "cpu",
    batch_size: int | None = None,
    memory_bytes: int = 8 << 30,
    say: Say = print,
    scored: Callable[[Pair], None] = lambda pair: None,
) -> None:
    """Score every pair that has no valid score yet; one Parquet file per pair, written as soon as it is scored.

    A metric that fails on a pair leaves the pair's other scores as they are. Skipped, and said once, are metrics that
    need the source's own images, for a source whose images are not at hand, metrics that need features, for a source
    that gives scores only, and metrics whose library is not installed.

    Args:
        run: The study.
        sources, targets: Only these; all when empty.
        shard: Only every n-th of these targets.
        device: Where networks run, e.g. "cuda".
        batch_size: Images of one size per forward pass; None: 8 on CUDA, 1 on the CPU.
        memory_bytes: A quarter is for the decoded images of one target, half for networks that stay loaded.
        say: Takes one line per scored pair; failures go to stderr.
        scored: Takes every pair that was given scores, when they are stored.

    Raises:
        IncompleteError: Some pairs failed; the reasons were said.
    """
    bench = _Bench(run, device, batch_size, memory_bytes)
    pairs = wanted_pairs(run, sources, targets)
    shared = share(list(dict.fromkeys(target for _, target in pairs)), shard)
    pairs = [pair for pair in pairs if pair[1] in shared]
    for name in bench.uninstalled:
        say(f"metric {name} needs a library: pip install 'seg_transfer[{METRICS[name].extra}]'; skipped")
    for entry in dict.fromkeys(entry for entry, _ in pairs):
        if skipped := bench.skipped(entry):
            say(f"source {entry.name}: its own images are {bench.unseen(entry)}; skipped {', '.join(skipped)}")
        if skipped := featureless(run, entry):
            say(f"source {entry.name}: scores_only, its features are unknown; skipped {', '.join(skipped)}")
    for_each_claimed(
        pairs,
        lambda pair, held: _score_pair(bench, pair, held, say, scored),
        pair_label,
        lambda pair: pair_lease(run, pair),
    )


def missing_scores(run: Run, *, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> dict[Pair, list[str]]:
    """The metrics that each pair has no valid score of; pairs that are complete are left out.

    A pair lacks them all while its source is not trained, but for those that `score_pairs` would skip.

    Raises:
        DataError: Files of a target are missing.
    """
    bench = _Bench(run, "cpu", 1, 0)
    missing = {pair: _missing_metrics(bench, pair) for pair in wanted_pairs(run, sources, targets)}
    return {pair: metrics for pair, metrics in missing.items() if metrics}


def _missing_metrics(bench: _Bench, pair: Pair) -> list[str]:
    try:
        valid = _valid_rows(bench, pair)
    except CheckpointError:
        valid = {}
    return [name for name in bench.metrics(pair[0]) if name not in valid]


class _Bench(Bench):
    """The same, with the metrics that each source can have."""

    @property
    def uninstalled(self) -> list[str]:
        """The study's metrics whose library is not installed."""
        return uninstalled_metrics(self.run)

    def skipped(self, entry: SourceEntry) -> list[str]:
        """The study's metrics that this source cannot have for want of its own images."""
        needy = [] if entry.scores_only else skipped_metrics(self.run)
        return needy if needy and self.unseen(entry) else []

    def metrics(self, entry: SourceEntry) -> list[str]:
        """The study's metrics that this source can have."""
        return metrics_of(self.run, entry, unseen=bool(self.skipped(entry)))

    def score_key(self, entry: SourceEntry, observations: Key, metric: str) -> Key:
        """The key that a valid score has, where that of its observations is known; "" where there can be no score."""
        seen = needs_source_images(metric) and not self.unseen(entry)
        return keys.score_key(observations, metric, self.source_dataset(entry).sample_key if seen else None)


def _score_pair(bench: _Bench, pair: Pair, held: Held, say: Say, scored: Callable[[Pair], None]) -> None:
    """Score a pair by the metrics it lacks; those that fail are raised when the others are stored."""
    entry, target = pair
    valid = _valid_rows(bench, pair)
    missing = [name for name in bench.metrics(entry) if name not in valid]
    if not missing:
        return
    began, failed = time.monotonic(), dict[str, SegTransferError]()
    # First, so that these and the target's observations are not in memory whole at the same time.
    own = bench.source_images(entry) if any(map(needs_source_images, missing)) else None
    observations = observations_of(bench, entry, bench.target(target))
    scores = _scores(observations, own, missing, failed)
    if scores and held():
        _store(bench, pair, valid, scores, observations, time.monotonic() - began, say)
        scored(pair)
    if failed:
        raise PartsFailedError({metric_label(pair, metric): error for metric, error in failed.items()})


def _store(
    bench: _Bench,
    pair: Pair,
    valid: dict[str, dict[str, Any]],
    scores: Mapping[str, Score],
    observations: Observations,
    seconds: float,
    say: Say,
) -> None:
    """Write the new scores of a pair beside those that are valid."""
    run, (entry, target) = bench.run, pair
    key = bench.observations_key(entry, bench.target(target))
    rows = valid | {
        name: _row(pair, name, score, observations, seconds, bench.score_key(entry, key, name))
        for name, score in scores.items()
    }
    origin = run.origin("scores", target, bench.source_key(entry)) | source_images_origin(run.resolved, entry.dataset)
    origin |= parts_entry({name: row["content_key"].parts for name, row in rows.items()})
    write_rows(run.scores_file(entry.name, target), SCORES, [rows[name] for name in METRICS if name in rows], origin)
    shown = ", ".join(f"{name} {score.score:.4g}" for name, score in scores.items())
    say(f"{pair_label(pair)}: {shown} ({'; '.join([f'{seconds:.1f} s', *_notes(scores)])})")


def _notes(scores: Mapping[str, Score]) -> list[str]:
    """Every note once, after the metrics that it is of."""
    notes = dict.fromkeys(score.note for score in scores.values() if score.note)
    return [f"{', '.join(name for name in scores if scores[name].note == note)} {note}" for note in notes]


def _scores(
    observations: Observations,
    own: Observations | SegTransferError | None,
    names: Sequence[str],
    failed: dict[str, SegTransferError],
) -> dict[str, Score]:
    """The scores by all metrics at once; where one fails, by one after the other, for what succeeds."""
    if isinstance(own, SegTransferError):
        failed.update(dict.fromkeys(filter(needs_source_images, names), own))
        names = [name for name in names if name not in failed]
    elif own is not None:
        observations = replace(observations, source_images=own)
    scores: dict[str, Score] = {}

    def score(some: Sequence[str]) -> None:
        scores.update(score_all(observations, some))

    if failures_of(partial(score, names), "all metrics at once"):
        for name in names:
            failed |= failures_of(partial(score, [name]), name)
    return scores


def _valid_rows(bench: _Bench, pair: Pair) -> dict[str, dict[str, Any]]:
    """The stored scores of a pair that a new computation would give again."""
    entry, target = pair
    key = bench.observations_key(entry, bench.target(target))
    rows = read_rows(bench.run.scores_file(entry.name, target), SCORES)
    found = {row["metric"]: (row, bench.score_key(entry, key, row["metric"])) for row in rows}
    return {name: {**row, "content_key": key} for name, (row, key) in found.items() if row["content_key"] == key}


def _row(pair: Pair, metric: str, score: Score, observations: Observations, seconds: float, key: Key) -> dict[str, Any]:
    return {
        "source": pair[0].name,
        "target": pair[1],
        "metric": metric,
        "score": score.score,
        "standard_error": score.standard_error,
        "replicates": list(score.replicates),
        "note": score.note,
        "n_observations": len(observations.labels),
        "n_images": len(np.unique(_not_none(observations.image_index))),
        "n_classes": len(observations.classes),
        "n_source_classes": _not_none(observations.source_probs).shape[1],
        **provenance(seconds, key, SCORES_LAYOUT),
    }


def _not_none(array: Any) -> Any:
    assert array is not None
    return array
