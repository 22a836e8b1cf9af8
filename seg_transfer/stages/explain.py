"""Explaining the scores of a study: the overlaps that a GBC is made of, and maps of the pixels it is computed from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.engines.claims import Held, for_each_claimed
from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.metrics import class_overlaps
from seg_transfer.models.configs import source_key
from seg_transfer.models.source_model import load_source_model
from seg_transfer.observations import FloatArray, Observations
from seg_transfer.observations.projection import balanced_rows, fit_plane, turned_onto, umap_installed, umap_points
from seg_transfer.stages.context import Bench, observations_of
from seg_transfer.stages.items import Trial
from seg_transfer.stages.keys import explanation_keys, fine_tuned_map_key, is_valid, trial_keys
from seg_transfer.store.content_key import Key
from seg_transfer.store.explanations import (
    MAP,
    explanation_file,
    is_explained,
    overlap_columns,
    write_explanation,
)
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.store.tables import read_table
from seg_transfer.study.run import Pair, Run, Say, pair_label, wanted_pairs

# On a map of more pixels the dots of one class hide those of another.
MAP_PIXELS = 2000


def explain(
    run: Run,
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str],
    umap: bool = False,
    device: str = "cpu",
    batch_size: int | None = None,
    memory_bytes: int = 8 << 30,
    say: Say = print,
    explained: Callable[[Pair], None] = lambda _pair: None,
) -> None:
    """Explain every pair of these sources and targets that has no valid explanation yet; a forward pass for each.

    ``explanations/<source>/<target>/`` then holds `overlaps`, `classes` and `map` (see `store.explanations`), and
    `map_fine_tuned` where the study keeps the weights of fine-tunings: of the first seed whose weights are there. Maps
    show the same class-balanced pixels; the one after fine-tuning is turned onto the one before it.

    Args:
        run: The study.
        sources: Only these; all when empty.
        targets: These, one at least.
        umap: Draw maps by UMAP instead of by PCA.
        device, batch_size, memory_bytes: As for `score_pairs`.
        say: Takes one line per pair that was explained now; failures go to stderr.
        explained: Takes every pair that has a valid explanation in the end, as soon as it has.

    Raises:
        ConfigError: No target is named, or the library for UMAP is not installed.
        IncompleteError: Some pairs failed; the reasons were said.
    """
    if not targets:
        raise ConfigError("explain: no target is named; name one at least, each costs a forward pass for every source")
    if umap and not umap_installed():
        raise ConfigError("--umap needs a library that is not installed: pip install 'seg_transfer[umap]'")
    bench, method = Bench(run, device, batch_size, memory_bytes), "umap" if umap else "pca"

    def work(pair: Pair, held: Held) -> None:
        began = time.monotonic()
        if _explain_pair(_Item(bench, pair, method, held)):
            say(f"{pair_label(pair)}: explained ({time.monotonic() - began:.1f} s)")
        explained(pair)

    for_each_claimed(
        wanted_pairs(run, sources, targets),
        work,
        pair_label,
        lambda pair: run.lease("explanations", pair[0].name, pair[1]),
    )


@dataclass(frozen=True)
class _Item:
    """One pair at work. ``held``: whether it is still this process's."""

    bench: Bench
    pair: Pair
    method: str
    held: Held

    def file(self, name: str) -> Path:
        return explanation_file(self.bench.run.folder, self.pair[0].name, self.pair[1], name)

    def write(self, name: str, columns: Sequence[Any], key: str, about: Mapping[str, Any]) -> None:
        run, (entry, target) = self.bench.run, self.pair
        if self.held():
            names = {"source": entry.name, "target": target}
            origin = run.origin("scores", target, self.bench.source_key(entry))
            write_explanation(self.file(name), columns, key, {**names, **origin}, about)


def _explain_pair(item: _Item) -> bool:
    """Write what is missing of an explanation; whether anything was."""
    observed = item.bench.observations_key(item.pair[0], item.bench.target(item.pair[1]))
    keys = explanation_keys(observed, item.method, MAP_PIXELS)
    missing = [name for name, key in keys.items() if not is_explained(item.file(name), key)]
    if missing:
        _explain_source(item, missing, keys)
    return _explain_fine_tuned(item, keys["map"]) or bool(missing)


def _explain_source(item: _Item, missing: Sequence[str], keys: Mapping[str, Key]) -> None:
    entry, target = item.pair
    observations = observations_of(item.bench, entry, item.bench.target(target))
    if "overlaps" in missing:
        overlaps = class_overlaps(_features(observations), observations.labels)
        item.write("overlaps", overlap_columns(overlaps), keys["overlaps"], {"gbc": overlaps.gbc})
    if "classes" in missing:
        names = item.bench.run.manifests[target].classes
        counts = np.bincount(observations.labels, minlength=len(names))
        item.write("classes", (np.arange(len(names)), names, counts), keys["classes"], {})
    if "map" in missing:
        rows = _map_rows(item, observations)
        points, about = _points(item, _features(observations)[rows])
        _write_map(item, "map", observations, rows, points, keys["map"], about)


def _explain_fine_tuned(item: _Item, map_key: Key) -> bool:
    """Map the pixels as the fine-tuned source sees them, where its weights were kept; whether that was missing."""
    file, (seed, card) = item.file("map_fine_tuned"), _kept_card(item)
    if card is None:
        file.unlink(missing_ok=True)  # of weights that are gone, or of other settings
        return False
    key = fine_tuned_map_key(map_key, source_key(card, memo=item.bench.run.memo))
    if is_explained(file, key):
        return False
    target = item.bench.target(item.pair[1])
    # What the network was fine-tuned with is its own normalisation.
    observations = extract(load_source_model(card, device=item.bench.device), target.images, target.sample)
    rows = _map_rows(item, observations)
    points, about = _points(item, _features(observations)[rows])
    before = read_table(item.file("map"), MAP)
    turned = turned_onto(points, np.stack([before["x"].to_numpy(), before["y"].to_numpy()], axis=1))
    _write_map(item, "map_fine_tuned", observations, rows, turned, key, {**about, "seed": seed})
    return True


def _kept_card(item: _Item) -> tuple[int, Path | None]:
    """The first seed of the pair whose fine-tuned weights are there and are those of the study's settings."""
    run, (entry, target) = item.bench.run, item.pair
    for seed in run.study.fine_tuning.seeds if run.study.fine_tuning else ():
        card = run.fine_tuned_folder(entry.name, target, seed) / FILE_NAME
        if card.exists() and is_valid(read_source_card(card).content_key, trial_keys(run, Trial(entry, target, seed))):
            return seed, card
    return 0, None


def _map_rows(item: _Item, observations: Observations) -> npt.NDArray[np.int64]:
    return balanced_rows(observations.labels, MAP_PIXELS, item.bench.run.study.sampling.seed)


def _points(item: _Item, features: npt.NDArray[Any]) -> tuple[FloatArray, dict[str, Any]]:
    """Where observations lie on a map, and how it was made."""
    if item.method == "umap":
        points = umap_points(features, item.bench.run.study.sampling.seed)
        return points, {"method": "umap", "explained": None}
    plane = fit_plane(features)
    return plane.apply(features), {"method": "pca", "explained": plane.explained.tolist()}


def _write_map(
    item: _Item,
    name: str,
    observations: Observations,
    rows: npt.NDArray[np.int64],
    points: FloatArray,
    key: Key,
    about: Mapping[str, Any],
) -> None:
    assert observations.image_index is not None
    columns = (points[:, 0], points[:, 1], observations.labels[rows], observations.image_index[rows])
    item.write(name, columns, key, {**about, "n_observations": len(observations.labels)})


def _features(observations: Observations) -> npt.NDArray[Any]:
    if observations.features is None:
        raise ConfigError(
            "only scores can be had of this source (scores_only), and no features to explain; leave it out"
        )
    return observations.features
