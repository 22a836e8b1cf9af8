"""Explains a pair of a study: the class overlaps that make up its GBC, and maps of the sampled pixels."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.metrics import class_overlaps
from seg_transfer.models.configs import source_key
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.loading import load_source_model
from seg_transfer.observations import FloatArray, Observations
from seg_transfer.observations.projection import class_balanced_rows, fit_plane, procrustes_align, umap_points
from seg_transfer.stages.base import IsHeld, Item, pair_label
from seg_transfer.stages.context import ScoringContext, observe
from seg_transfer.stages.explanation_keys import MAP_PIXELS, explanation_keys, fine_tuned_map_key
from seg_transfer.stages.finetune import fine_tuning_keys
from seg_transfer.stages.training_keys import is_valid
from seg_transfer.store.content_key import Key
from seg_transfer.store.explanations import MAP, explanation_file, is_explained, overlap_columns, write_explanation
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.store.tables import read_table

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Explanation:
    """The explanation of one pair, in progress; ``is_held`` says whether this process still holds the pair's lease."""

    context: ScoringContext
    item: Item
    method: str
    is_held: IsHeld

    @property
    def entry(self) -> SourceEntry:
        return self.context.run.study.source(self.item.source)

    def file(self, name: str) -> Path:
        return explanation_file(self.context.run.folder, self.item.source, self.item.target, name)

    def write(self, name: str, columns: Sequence[Any], key: str, about: Mapping[str, Any]) -> None:
        if self.is_held():
            names = {"source": self.item.source, "target": self.item.target}
            origin = self.context.run.origin("scores", self.item.target, self.context.source_key(self.entry))
            write_explanation(self.file(name), columns, key, {**names, **origin}, about)


def explain_pair(context: ScoringContext, item: Item, is_held: IsHeld, method: str) -> None:
    """Write the missing files of a pair's explanation, with maps by `method`, "pca" or "umap".

    ``explanations/<source>/<target>/`` then holds `overlaps`, `classes` and `map` (see `store.explanations`). If the
    study keeps the weights of fine-tunings, it also holds `map_fine_tuned`, for the first seed whose weights exist.
    Both maps show the same class-balanced pixels, and the map after fine-tuning is aligned with the map before it.
    """
    began = time.monotonic()
    if _write_missing(_Explanation(context, item, method, is_held)):
        _logger.info("%s: explained (%.1f s)", pair_label(item), time.monotonic() - began)


def _write_missing(work: _Explanation) -> bool:
    """Write the missing files of an explanation; returns whether any file was missing."""
    observed = work.context.observations_key(work.entry, work.context.target(work.item.target))
    keys = explanation_keys(observed, work.method, MAP_PIXELS)
    missing = [name for name, key in keys.items() if not is_explained(work.file(name), key)]
    if missing:
        _explain_source(work, missing, keys)
    return _explain_fine_tuned(work, keys["map"]) or bool(missing)


def _explain_source(work: _Explanation, missing: Sequence[str], keys: Mapping[str, Key]) -> None:
    entry, target = work.entry, work.item.target
    observations = observe(work.context, entry, work.context.target(target))
    if "overlaps" in missing:
        overlaps = class_overlaps(_features(observations), observations.labels)
        work.write("overlaps", overlap_columns(overlaps), keys["overlaps"], {"gbc": overlaps.gbc})
    if "classes" in missing:
        names = work.context.run.manifests[target].classes
        counts = np.bincount(observations.labels, minlength=len(names))
        work.write("classes", (np.arange(len(names)), names, counts), keys["classes"], {})
    if "map" in missing:
        rows = _map_rows(work, observations)
        points, about = _points(work, _features(observations)[rows])
        _write_map(work, "map", observations, rows, points, keys["map"], about)


def _explain_fine_tuned(work: _Explanation, map_key: Key) -> bool:
    """Map the pixels in the features of the fine-tuned source, if it was kept; returns whether the map was missing."""
    file, (seed, card) = work.file("map_fine_tuned"), _fine_tuned_card(work)
    if card is None:
        file.unlink(missing_ok=True)  # it shows deleted weights or other settings
        return False
    key = fine_tuned_map_key(map_key, source_key(card, memo=work.context.run.memo))
    if is_explained(file, key):
        return False
    target = work.context.target(work.item.target)
    is_announced = bool(work.entry.code())  # the code of the source, which is also that of the fine-tuned one
    # The fine-tuned network brings the normalization that it was fine-tuned with.
    tuned = load_source_model(card, device=work.context.device, trust_code=is_announced)
    observations = extract(tuned, target.images, target.sample, precision=work.context.run.study.precision)
    rows = _map_rows(work, observations)
    points, about = _points(work, _features(observations)[rows])
    before = read_table(work.file("map"), MAP)
    aligned = procrustes_align(points, np.stack([before["x"].to_numpy(), before["y"].to_numpy()], axis=1))
    _write_map(work, "map_fine_tuned", observations, rows, aligned, key, {**about, "seed": seed})
    return True


def _fine_tuned_card(work: _Explanation) -> tuple[int, Path | None]:
    """Return the first seed whose fine-tuned weights exist and match the study's settings, and its source card."""
    run, entry, target = work.context.run, work.entry, work.item.target
    for seed in run.study.fine_tuning.seeds if run.study.fine_tuning else ():
        card = run.fine_tuned_folder(entry.name, target, seed) / FILE_NAME
        if card.exists() and is_valid(
            read_source_card(card).content_key, fine_tuning_keys(run, Item(entry.name, target, seed))
        ):
            return seed, card
    return 0, None


def _map_rows(work: _Explanation, observations: Observations) -> npt.NDArray[np.int64]:
    return class_balanced_rows(observations.labels, MAP_PIXELS, work.context.run.study.sampling.seed)


def _points(work: _Explanation, features: npt.NDArray[Any]) -> tuple[FloatArray, dict[str, Any]]:
    """Return the positions of observations on a map, and facts about the map."""
    if work.method == "umap":
        points = umap_points(features, work.context.run.study.sampling.seed)
        return points, {"method": "umap", "explained": None}
    plane = fit_plane(features)
    return plane.apply(features), {"method": "pca", "explained": plane.explained.tolist()}


def _write_map(
    work: _Explanation,
    name: str,
    observations: Observations,
    rows: npt.NDArray[np.int64],
    points: FloatArray,
    key: Key,
    about: Mapping[str, Any],
) -> None:
    assert observations.image_index is not None
    columns = (points[:, 0], points[:, 1], observations.labels[rows], observations.image_index[rows])
    work.write(name, columns, key, {**about, "n_observations": len(observations.labels)})


def _features(observations: Observations) -> Any:
    if observations.features is None:
        raise ConfigError("this source gives scores only (scores_only) and has no features to explain; leave it out")
    return observations.features
