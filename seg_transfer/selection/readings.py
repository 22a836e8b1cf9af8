"""Scores under several readings of a network's features: which maps should a score look at?

All readings of a network are observed in the same forward passes. Scores are stored in ``readings/`` of the study's run
folder, one file per pair, and are reused while they are valid.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract_readings
from seg_transfer.metrics import METRICS, Covariance, log_negative_gbc, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._gbc import class_distances
from seg_transfer.models.reading import with_features
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations
from seg_transfer.stages.base import Item, pair_label
from seg_transfer.stages.context import ScoringContext, TargetContext
from seg_transfer.stages.failures import for_each
from seg_transfer.store.content_key import content_key
from seg_transfer.store.tables import READINGS, provenance, read_rows, write_rows
from seg_transfer.study.run import Run

Array = npt.NDArray[np.float64]
Features = npt.NDArray[Any]
Labels = npt.NDArray[np.integer[Any]]

_logger = logging.getLogger(__name__)
METRICS_OF_READINGS = ("gbc", "logme", "h_score", "nleep", "knn", "ridge_probe", "probe_miou", "leep", "nce")
N_PROJECTED = 16
"""Dimensions of the random projection: every network has as many."""
_COARSE = 4
_ENCODERS = ("backbone", "encoder")
_COMPONENTS, _VARIANCE_FLOOR = 64, 1e-4
_GBC_SETTINGS: tuple[Covariance, float, int] = ("diagonal", _VARIANCE_FLOOR, 1)


def readings_of(source: SourceModel) -> dict[str, SourceModel]:
    """Return the readings of a network that ends in a classifier.

    Returns:
        Name -> reading:

        * last: the input of the last layer
        * stages: the last map of every stride
        * coarse: those of them at stride 4 and above
        * encoder: the maps that its encoder returns

    Raises:
        ConfigError: The network has no last layer, or no part that is known as its encoder.
    """
    stages, encoder = with_features(source, "stages"), with_features(source, [_encoder_of(source)])
    return {
        "last": with_features(source, "last"),
        "stages": stages,
        "coarse": replace(stages, layers=tuple(layer for layer in stages.layers if layer.stride >= _COARSE)),
        # Some encoders return the image too, as a map of stride 1.
        "encoder": replace(encoder, layers=tuple(layer for layer in encoder.layers if layer.stride > 1)),
    }


def _encoder_of(source: SourceModel) -> str:
    children = dict(source.network.named_children())
    name = next((name for name in _ENCODERS if name in children), None)
    if name is None:
        raise ConfigError(
            f"network {type(source.network).__name__}: no part is named {' or '.join(_ENCODERS)}; leave it out"
        )
    return name


def score_readings(run: Run, items: Sequence[Item], *, device: str = "cpu") -> None:
    """Score pairs of a study under every reading, by `METRICS_OF_READINGS` and by `VARIANTS`.

    Raises:
        IncompleteError: Pairs failed; the others are scored.
    """
    context = ScoringContext.for_run(run, device)
    for_each(items, partial(_score, context), pair_label)


def stored_readings(run: Run) -> list[dict[str, Any]]:
    """Return the rows of all pairs that were scored."""
    return [row for entry, target in run.pairs for row in read_rows(_file(run, Item(entry.name, target)), READINGS)]


def _file(run: Run, item: Item) -> Path:
    return run.folder / "readings" / item.source / f"{item.target}.parquet"


def _score(context: ScoringContext, item: Item) -> None:
    run, target = context.run, context.target(item.target)
    entry, file = run.study.source(item.source), _file(run, item)
    versions = {name: METRICS[name].version for name in METRICS_OF_READINGS}
    key = content_key(observations=context.observations_key(entry, target), metrics=versions, variants=list(VARIANTS))
    stored = read_rows(file, READINGS)
    if stored and all(row["content_key"] == key for row in stored):
        return
    readings = readings_of(context.source(entry))
    rows = []
    observed = dict(zip(readings, _observed(list(readings.values()), target), strict=True))
    scored: dict[str, list[tuple[str, float, float]]] = {}
    for name, observations in observed.items():
        layers = readings[name].layers
        shape = {"n_features": readings[name].n_features, "stride": min(layer.stride for layer in layers)}
        # Two readings of one network may be the same, as all but one of an HRNet are.
        same = [other for other in scored if _same_features(observed[other], observations)]
        scored[name] = scored[same[0]] if same else _scores(observations)
        for metric, score, seconds in scored[name]:
            named = {"source": item.source, "target": item.target, "reading": name, "metric": metric, "score": score}
            rows.append({**named, **shape, "n_maps": len(layers), **provenance(seconds, key)})
    write_rows(file, READINGS, rows)
    _logger.info("%s: %d readings", pair_label(item), len(readings))


def _observed(readings: Sequence[SourceModel], target: TargetContext) -> list[Observations]:
    observed = extract_readings(readings, target.images, target.sample, precision=target.run.study.precision)
    # The sample may lack a class of the target.
    return [replace(one, class_pixels=target.class_pixels[one.classes]) for one in observed]


def _same_features(first: Observations, second: Observations) -> bool:
    assert first.features is not None
    assert second.features is not None
    return np.array_equal(first.features, second.features)


def _scores(observations: Observations) -> list[tuple[str, float, float]]:
    """Return name, score and seconds of every metric and variant; all metrics have the seconds of their common pass."""
    began = time.perf_counter()
    scores = score_all(observations, METRICS_OF_READINGS, standard_errors=False)
    seconds = time.perf_counter() - began
    rows = [(name, scored.score, seconds) for name, scored in scores.items()]
    features, image_index = observations.features, observations.image_index
    assert features is not None
    assert image_index is not None
    for name, variant in VARIANTS.items():
        began = time.perf_counter()
        rows.append((name, variant(features, observations.labels, image_index), time.perf_counter() - began))
    return rows


def _log_gbc(features: Features, labels: Labels, _image_index: Labels, *, n_components: int | None) -> float:
    return -log_negative_gbc(features, labels, n_components=n_components)


def projected(features: Features, n_directions: int = N_PROJECTED) -> Array:
    """Project features (N, D) onto seeded random orthonormal directions: (N, min(n_directions, D)).

    Example:
        >>> lengths = np.linalg.norm(projected(np.eye(20)[:3]), axis=1)
        >>> projected(np.eye(20)).shape, bool((lengths <= 1).all())
        ((20, 16), True)
    """
    width = features.shape[1]
    normal = np.random.default_rng(0).standard_normal((width, min(n_directions, width)))
    product: Array = features @ np.linalg.qr(normal)[0]
    return product


def _log_gbc_projected(features: Features, labels: Labels, _image_index: Labels) -> float:
    return -log_negative_gbc(projected(features), labels, n_components=None)


def _log_gbc_per_dimension(features: Features, labels: Labels, _image_index: Labels) -> float:
    """Compute GBC with every distance divided by the number of dimensions that the PCA keeps."""
    distances = class_distances(Statistics.ungrouped(Observations(features, labels)), _COMPONENTS, *_GBC_SETTINGS)
    return -float(logsumexp(-distances / min(_COMPONENTS, features.shape[1])) + np.log(2))


def gaussian_probe(features: Features, labels: Labels, image_index: Labels) -> float:
    """Classify held-out images by the Gaussians of GBC: the balanced accuracy, the mean over two halves of the images.

    Args:
        features: (N, D).
        labels: (N,) integers.
        image_index: (N,) images; those of even rank are one half.

    Example:
        >>> x = np.array([[0.0], [0.2], [1.0], [1.2], [0.1], [0.3], [1.1], [1.3]])
        >>> gaussian_probe(x, np.array([0, 0, 1, 1] * 2), np.array([0] * 4 + [1] * 4))
        1.0
    """
    even = np.unique(image_index, return_inverse=True)[1] % 2 == 0
    return float(np.mean([_held_out_accuracy(features, labels, half) for half in (even, ~even)]))


def _held_out_accuracy(features: Features, labels: Labels, fitted: npt.NDArray[np.bool_]) -> float:
    x = features.astype(np.float64)
    center = x[fitted].mean(axis=0)
    directions = np.linalg.eigh(np.cov((x[fitted] - center).T).reshape(x.shape[1], -1))[1][:, -_COMPONENTS:]
    z, classes = (x - center) @ directions, np.unique(labels[fitted])
    log_densities = np.stack([_log_density(z[~fitted], z[fitted & (labels == one)]) for one in classes], axis=1)
    right, held_out = classes[log_densities.argmax(axis=1)] == labels[~fitted], labels[~fitted]
    return float(np.mean([right[held_out == one].mean() for one in np.unique(held_out)]))


def _log_density(z: Array, of_class: Array) -> Array:
    mean, variance = of_class.mean(axis=0), np.maximum(of_class.var(axis=0), _VARIANCE_FLOOR)
    density: Array = -(((z - mean) ** 2 / variance + np.log(variance)).sum(axis=1)) / 2
    return density


VARIANTS: dict[str, Callable[[Features, Labels, Labels], float]] = {
    "gbc_16": partial(_log_gbc, n_components=16),
    "gbc_32": partial(_log_gbc, n_components=32),
    "gbc_64": partial(_log_gbc, n_components=_COMPONENTS),
    "gbc_128": partial(_log_gbc, n_components=128),
    "gbc_projected": _log_gbc_projected,
    "gbc_per_dimension": _log_gbc_per_dimension,
    "gaussian_probe": gaussian_probe,
}
"""Further ways to a fair comparison: -log(-GBC) with other numbers of dimensions, in a random projection and per
dimension, and the Gaussians of GBC as a classifier of held-out images."""
