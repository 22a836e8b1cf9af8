"""The metrics that can be computed for a source, and the content keys of their scores."""

from __future__ import annotations

from collections.abc import Callable

from seg_transfer.errors import DataError, SegTransferError
from seg_transfer.metrics import METRICS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.libraries import library_versions
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.results import needs_source_images
from seg_transfer.study.networks import libraries_of
from seg_transfer.study.run import Run

# Metrics that use a source's own images subsample these observations further or use class means. The observations of
# all sources stay in memory at once, 15 MB each with 720 channels.
SOURCE_OBSERVATIONS = 5000


def metrics_requiring_features(run: Run, entry: SourceEntry) -> list[str]:
    """Return the study's metrics that cannot be computed because the source gives no features."""
    feature_inputs = {"features", "image_embeddings", "source_images"}
    return [name for name in run.study.metrics if entry.scores_only and METRICS[name].needs & feature_inputs]


def metrics_requiring_probabilities(run: Run, entry: SourceEntry) -> list[str]:
    """Return the study's metrics that cannot be computed because the source is a backbone without classes."""
    return [name for name in run.study.metrics if "source_probs" in METRICS[name].needs and _is_backbone(entry)]


def _is_backbone(entry: SourceEntry) -> bool:
    try:
        return not entry.has_scores
    except SegTransferError:  # loading reports it as the failure of this source's own pairs
        return False


def metrics_requiring_source_images(
    run: Run, entry: SourceEntry, unavailable: Callable[[SourceEntry], str]
) -> list[str]:
    """Return the study's metrics that cannot be computed because the source's own images are unavailable."""
    names = [] if entry.scores_only else sorted(filter(needs_source_images, run.study.metrics))
    return names if names and unavailable(entry) else []


def uninstalled_metrics(run: Run) -> list[str]:
    """Return the study's metrics whose library is not installed."""
    return [name for name in run.study.metrics if not METRICS[name].installed]


def available_metrics(run: Run, entry: SourceEntry, unavailable: Callable[[SourceEntry], str]) -> list[str]:
    """Return the study's metrics that can be computed for a source.

    `unavailable` returns the reason why the source's own images cannot be read, or "".
    """
    skipped = {
        *uninstalled_metrics(run),
        *metrics_requiring_source_images(run, entry, unavailable),
        *metrics_requiring_features(run, entry),
        *metrics_requiring_probabilities(run, entry),
    }
    return [name for name in run.study.metrics if name not in skipped]


def source_data_unavailable_reason(run: Run, entry: SourceEntry) -> str:
    """Return the reason why a source's own images cannot be read, or "" if they can."""
    if entry.dataset not in run.manifests:
        return f"not in this study (dataset {entry.dataset} has no manifest)"
    try:
        run.low_shot(entry.dataset)
    except DataError as error:
        return f"missing ({error})"
    return ""


def observations_key(run: Run, entry: SourceEntry, source: Key, sample: Key) -> Key:
    """Return the key of the observations of a source on a dataset; `source` is the key of the source's weights."""
    study = run.study
    features = {} if entry.features is None else {"features": entry.features}
    return content_key(
        source=source,
        **features,
        sample=sample,
        normalisation=study.normalisation,
        float16=study.keep_features,
        arithmetic=study.precision,
        libraries=library_versions(libraries_of(run, entry)),
    )


def score_key(observations: Key, metric: str, source_sample: Key | None) -> Key:
    """Return the key of a score.

    Args:
        observations: Key of the observations.
        metric: Name of the metric.
        source_sample: Key of the pixel sample of the source's own dataset; None if its images are unavailable.

    Returns:
        The key; "" if no score is possible, because the metric is unknown or needs unavailable images.
    """
    if metric not in METRICS:
        return Key("")
    parts: dict[str, object] = {}
    if needs_source_images(metric):
        if source_sample is None:
            return Key("")
        parts = {"source_images": [source_sample, SOURCE_OBSERVATIONS]}
    parts |= METRICS[metric].key_parts
    return content_key(observations=observations, metric=metric, **parts)
