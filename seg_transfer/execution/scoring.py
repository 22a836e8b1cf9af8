"""Scoring the pairs of a study: target by target, each image decoded and sampled once for all its sources."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from seg_transfer.data.records import Record
from seg_transfer.errors import CheckpointError
from seg_transfer.execution.run import Pair, Run, Say, for_each, pair_label, wanted_pairs
from seg_transfer.execution.samples import pixel_sample, sample_key
from seg_transfer.execution.sources import source_config
from seg_transfer.execution.study import SourceEntry
from seg_transfer.features.bank import read_bank, rounded, write_bank
from seg_transfer.features.extract import extract
from seg_transfer.features.images import TargetImages
from seg_transfer.metrics import METRICS, Score, score_all
from seg_transfer.models.source_model import SourceModel, load_source_model, source_key
from seg_transfer.observations import Observations, PixelSample
from seg_transfer.store.content_key import content_key
from seg_transfer.store.tables import SCORES, provenance, read_rows, write_rows


def score_pairs(
    run: Run,
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    device: str = "cpu",
    batch_size: int = 1,
    memory_bytes: int = 8 << 30,
    say: Say = print,
) -> None:
    """Score every pair that has no valid score yet; one Parquet file per pair, written as soon as it is scored.

    Args:
        run: The study.
        sources, targets: Only these; all when empty.
        device: Where networks run, e.g. "cuda".
        batch_size: Images of one size per forward pass.
        memory_bytes: A quarter is for the decoded images of one target, half for networks that stay loaded.
        say: Takes one line per scored pair; failures go to stderr.

    Raises:
        IncompleteError: Some pairs failed; the reasons were said.
    """
    bench = _Bench(run, device, batch_size, memory_bytes)
    for_each(wanted_pairs(run, sources, targets), lambda pair: _score_pair(bench, pair, say), pair_label)


def missing_scores(run: Run, *, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> dict[Pair, list[str]]:
    """The metrics that each pair has no valid score of; pairs that are complete are left out.

    A pair lacks them all while its source is not trained.

    Raises:
        DataError: Files of a target are missing.
    """
    bench = _Bench(run, "cpu", 1, 0)
    missing = {pair: _missing_metrics(bench, pair) for pair in wanted_pairs(run, sources, targets)}
    return {pair: metrics for pair, metrics in missing.items() if metrics}


def _missing_metrics(bench: _Bench, pair: Pair) -> list[str]:
    try:
        valid = _valid_rows(bench.run, pair, bench.score_keys(pair))
    except CheckpointError:
        valid = {}
    return [name for name in bench.run.study.metrics if name not in valid]


@dataclass
class _Target:
    """What all pairs of one target share."""

    run: Run
    name: str
    batch_size: int
    memory_bytes: int

    @cached_property
    def records(self) -> list[Record]:
        return self.run.low_shot(self.name)

    @cached_property
    def sample_key(self) -> str:
        return sample_key(self.run, self.name, self.records)

    @cached_property
    def sample(self) -> PixelSample:
        return pixel_sample(self.run, self.name, self.records)

    @cached_property
    def images(self) -> TargetImages:
        short_side = min(self.run.manifests[self.name].crop_size)
        return TargetImages(self.records, short_side, batch_size=self.batch_size, memory_bytes=self.memory_bytes)


@dataclass
class _Bench:
    """What stays at hand from pair to pair: the present target, and the networks that fit in memory."""

    run: Run
    device: str
    batch_size: int
    memory_bytes: int
    _target: _Target | None = None
    _sources: dict[str, SourceModel] = field(default_factory=dict)
    _source_keys: dict[str, str] = field(default_factory=dict)

    def target(self, name: str) -> _Target:
        if self._target is None or self._target.name != name:
            self._target = _Target(self.run, name, self.batch_size, self.memory_bytes // 4)
        return self._target

    def source(self, entry: SourceEntry) -> SourceModel:
        if entry.name not in self._sources:
            loaded = load_source_model(*source_config(self.run, entry), device=self.device)
            if sum(map(_bytes_of, self._sources.values())) + _bytes_of(loaded) > self.memory_bytes // 2:
                return loaded
            self._sources[entry.name] = loaded
        return self._sources[entry.name]

    def source_key(self, entry: SourceEntry) -> str:
        if entry.name not in self._source_keys:
            self._source_keys[entry.name] = source_key(*source_config(self.run, entry))
        return self._source_keys[entry.name]

    def observations_key(self, pair: Pair) -> str:
        """Key of all that decides the observations of a pair."""
        entry, target = pair
        study = self.run.study
        return content_key(
            source=self.source_key(entry),
            sample=self.target(target).sample_key,
            normalisation=study.normalisation,
            float16=study.keep_features,
        )

    def score_keys(self, pair: Pair) -> dict[str, str]:
        """The key that a valid score has, for every metric there is."""
        observations = self.observations_key(pair)
        return {
            name: content_key(observations=observations, metric=name, settings=dict(metric.settings))
            for name, metric in METRICS.items()
        }


def _score_pair(bench: _Bench, pair: Pair, say: Say) -> None:
    run, (entry, target) = bench.run, pair
    keys = bench.score_keys(pair)
    valid = _valid_rows(run, pair, keys)
    missing = [name for name in run.study.metrics if name not in valid]
    if not missing:
        return
    began = time.monotonic()
    observations = _observations(bench, pair)
    scores = score_all(observations, missing)
    seconds = time.monotonic() - began
    rows = valid | {name: _row(pair, name, scores[name], observations, seconds, keys[name]) for name in missing}
    origin = run.origin("scores", target, bench.source_key(entry))
    write_rows(run.scores_file(entry.name, target), SCORES, [rows[name] for name in METRICS if name in rows], origin)
    shown = ", ".join(f"{name} {scores[name].score:.4g}" for name in missing)
    say(f"{pair_label(pair)}: {shown} ({seconds:.1f} s)")


def _valid_rows(run: Run, pair: Pair, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The stored scores of a pair that a new computation would give again."""
    rows = read_rows(run.scores_file(pair[0].name, pair[1]), SCORES)
    return {row["metric"]: row for row in rows if keys.get(row["metric"]) == row["content_key"]}


def _observations(bench: _Bench, pair: Pair) -> Observations:
    run, (entry, name) = bench.run, pair
    file, key = run.features_file(entry.name, name), bench.observations_key(pair)
    stored = read_bank(file, key) if run.study.keep_features else None
    if stored is not None:
        return stored
    target, manifest = bench.target(name), run.manifests[name]
    own = run.study.normalisation == "model"
    observations = extract(
        bench.source(entry),
        target.images,
        target.sample,
        mean=None if own else manifest.mean,
        std=None if own else manifest.std,
    )
    if not run.study.keep_features:
        return observations
    kept = rounded(observations)
    write_bank(file, kept, key)
    return kept


def _row(pair: Pair, metric: str, score: Score, observations: Observations, seconds: float, key: str) -> dict[str, Any]:
    return {
        "source": pair[0].name,
        "target": pair[1],
        "metric": metric,
        "score": score.score,
        "standard_error": score.standard_error,
        "n_observations": len(observations.labels),
        "n_images": len(np.unique(_not_none(observations.image_index))),
        "n_classes": len(observations.classes),
        "n_source_classes": _not_none(observations.source_probs).shape[1],
        **provenance(seconds, key),
    }


def _not_none(array: Any) -> Any:
    assert array is not None
    return array


def _bytes_of(source: SourceModel) -> int:
    return sum(tensor.nbytes for tensor in source.network.state_dict().values())
