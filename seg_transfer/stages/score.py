"""The stage that scores pairs, with one item per pair of a source and a target."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from seg_transfer.models.entry import SourceEntry
from seg_transfer.stages.base import Item, Stage, Status, Work, pair_items, pair_label
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import duplicates, page_problems, pair_problems
from seg_transfer.stages.sample_keys import low_shot_sample_key, sample_part_name
from seg_transfer.stages.score_keys import (
    available_metrics,
    observations_key,
    score_key,
    source_data_unavailable_reason,
)
from seg_transfer.store.content_key import Key
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.results import needs_source_images
from seg_transfer.store.tables import SCORES, metadata_of, read_rows, read_table
from seg_transfer.study.networks import weights_key
from seg_transfer.study.run import CachedRun, Run

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe


@dataclass(frozen=True)
class ScoreSettings:
    """How pairs are scored.

    Attributes:
        device: Device that networks run on: "auto", "cpu", "cuda" or "cuda:N".
        batch_size: Images of one size per forward pass; None means 8 on CUDA and 1 on the CPU.
        memory_gb: Memory budget: a quarter holds the decoded images of one target, half holds loaded networks, and a
            quarter observations that wait to be scored.
    """

    device: str = "auto"
    batch_size: int | None = None
    memory_gb: float = 8.0


class ScoreStage(Stage):
    """Writes ``scores/<source>/<target>.parquet``, and ``features/`` if the study keeps observations."""

    name = "score"
    shard_noun = "target"
    settings_type = ScoreSettings

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return the pairs ordered by target, so that each image is decoded once for all sources."""
        return pair_items(run, sources, targets)

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return pair_label(item)

    def shard_key(self, item: Item) -> Hashable:
        """Return the target, because its pairs share decoded images."""
        return item.target

    def task_name(self, item: Item) -> str:
        """Return the target, because its pairs share decoded images."""
        return item.target

    def status(self, run: CachedRun, item: Item) -> Status:
        """Check which metrics of the study have a valid score."""
        file = run.scores_file(item.source, item.target)
        if not file.exists():
            return Status("missing")
        stored = read_table(file, SCORES)
        rows = {row["metric"]: row for row in stored.select(["metric", "content_key", "seconds"]).to_pylist()}
        seconds = max((row["seconds"] for row in rows.values()), default=None)
        wanted = self.parts(run, item)
        keys = _score_keys(run, item, [name for name in wanted if name in rows])
        parts = parts_in(metadata_of(stored, KEY_PARTS))
        entry = run.study.source(item.source)
        changed = {
            name: changes(parts.get(name, {}), key, partial(_part_name, entry, item.target, name))
            for name, key in keys.items()
            if rows[name]["content_key"] != key
        }
        absent = [name for name in wanted if name not in rows]
        reasons = tuple(dict.fromkeys(chain(*changed.values(), (f"no score of {name}" for name in absent))))
        computed = tuple(name for name in wanted if name in absent or name in changed)
        return Status("stale" if changed else "missing" if absent else "done", reasons, computed, seconds)

    def parts(self, run: CachedRun, item: Item) -> tuple[str, ...]:
        """Return the study's metrics that can be computed for the source."""
        entry = run.study.source(item.source)
        return tuple(available_metrics(run, entry, partial(_cached_unavailable_reason, run)))

    def missing(self, run: Run, items: Iterable[Item], settings: Any = None) -> dict[Item, tuple[str, ...]]:
        """The pairs that would get a score, and by which metrics; none where the source can have no score at all."""
        return {item: metrics for item, metrics in super().missing(run, items, settings).items() if metrics}

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all scores and features in the folder."""
        yield from pair_problems(run, "scores", SCORES, _row_problems)
        for file in sorted((run.folder / "features").glob("*/*.parquet")):
            yield from page_problems(file)

    def finished_seconds(self, run: Run) -> list[float]:
        """Return how long each finished pair took, in seconds."""
        by_pair = [read_rows(file, SCORES) for file in (run.folder / "scores").glob("*/*.parquet")]
        return [max(row["seconds"] for row in rows) for rows in by_pair if rows]

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate one forward pass per image; the source's own images count once, for its first pair."""
        entry, datasets = run.study.source(item.source), [item.target]
        if any(map(needs_source_images, parts)) and probe.is_first_call(entry.name):
            datasets.append(entry.dataset)
        network = probe.source(entry)
        return sum(probe.images(network, dataset, run.low_shot(dataset)) for dataset in datasets)

    def start(self, run: Run, items: Sequence[Item], settings: ScoreSettings) -> Work:
        """Prepare to compute the missing scores; a metric that fails does not affect the pair's other scores."""
        from seg_transfer.stages.context import ScoringContext
        from seg_transfer.stages.scoring import log_skipped_metrics, score_pair

        context = ScoringContext.for_run(run, settings.device, settings.batch_size, settings.memory_gb)
        log_skipped_metrics(context, items)
        return lambda item, is_held: score_pair(context, item, is_held)


def _cached_unavailable_reason(run: CachedRun, entry: SourceEntry) -> str:
    return run.cached(f"{entry.dataset} unavailable", lambda: source_data_unavailable_reason(run, entry))


def _score_keys(run: CachedRun, item: Item, metrics: Sequence[str]) -> dict[str, Key]:
    if not metrics:
        return {}
    entry = run.study.source(item.source)
    observations = observations_key(run, entry, weights_key(run, entry), low_shot_sample_key(run, item.target))

    def source_sample(metric: str) -> Key | None:
        return low_shot_sample_key(run, entry.dataset) if needs_source_images(metric) else None

    return {name: score_key(observations, name, source_sample(name)) for name in metrics}


def _part_name(entry: SourceEntry, target: str, metric: str, name: str) -> str:
    """Return the name of a part of a score's key for readers."""
    plain = name.removeprefix("observations.")
    if plain.startswith("source."):
        return f"{plain.removeprefix('source.')} of source {entry.name}"
    if plain.startswith("sample."):
        return sample_part_name(target, plain.removeprefix("sample."))
    if plain.startswith("source_images.0."):
        part = sample_part_name(entry.dataset, plain.removeprefix("source_images.0."))
        return part if part.startswith("records") else f"{part} of {entry.dataset}"
    if plain.startswith("libraries."):
        return plain.removeprefix("libraries.")
    if plain == "version":
        return f"version of metric {metric}"
    if plain.startswith("settings"):
        return f"metric settings of {metric}{plain.removeprefix('settings')}"
    names = {
        "source_images.1": "pixels of a source's own images",
        "float16": "keep_features",
        "arithmetic": "precision",
    }
    return names.get(plain, plain)


def _row_problems(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from duplicates("metric", rows)
    for row in rows:
        if row["score"] is None or not math.isfinite(row["score"]):
            yield f"the score of {row['metric']} is {row['score']}; it must be a finite number"


STAGE = ScoreStage()
