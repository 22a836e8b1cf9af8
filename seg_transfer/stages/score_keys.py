"""What decides the scores of a pair: which metrics a source can have, and the content keys of their scores."""

from __future__ import annotations

from collections.abc import Callable

from seg_transfer.errors import DataError
from seg_transfer.metrics import METRICS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.libraries import library_versions
from seg_transfer.store.content_key import Key, content_key
from seg_transfer.store.results import needs_source_images
from seg_transfer.study.run import Run

# The metrics that look at a source's own images subsample them further or use class means; those of all sources stay in
# memory at once, 15 MB each with 720 channels.
SOURCE_OBSERVATIONS = 5000
# In which networks compute features on every device: see `models.precision`.
FEATURES_ARITHMETIC = "float32"


def metrics_requiring_features(run: Run, entry: SourceEntry) -> list[str]:
    """The study's metrics that a source without features cannot have; none of any other source."""
    of_features = {"features", "image_embeddings", "source_images"}
    return [name for name in run.study.metrics if entry.scores_only and METRICS[name].needs & of_features]


def metrics_requiring_source_images(
    run: Run, entry: SourceEntry, unavailable: Callable[[SourceEntry], str]
) -> list[str]:
    """The study's metrics that a source cannot have because its own images are unavailable, as `unavailable` says."""
    names = [] if entry.scores_only else sorted(filter(needs_source_images, run.study.metrics))
    return names if names and unavailable(entry) else []


def uninstalled_metrics(run: Run) -> list[str]:
    """The study's metrics whose library is not installed."""
    return [name for name in run.study.metrics if not METRICS[name].installed]


def available_metrics(run: Run, entry: SourceEntry, unavailable: Callable[[SourceEntry], str]) -> list[str]:
    """The study's metrics that a source can have; `unavailable` says why its own images cannot be read."""
    skipped = {
        *uninstalled_metrics(run),
        *metrics_requiring_source_images(run, entry, unavailable),
        *metrics_requiring_features(run, entry),
    }
    return [name for name in run.study.metrics if name not in skipped]


def source_data_unavailable_reason(run: Run, entry: SourceEntry) -> str:
    """Why a source's own images cannot be read; "" when they can."""
    if entry.dataset not in run.manifests:
        return f"not in this study (dataset {entry.dataset} has no manifest)"
    try:
        run.low_shot(entry.dataset)
    except DataError as error:
        return f"missing ({error})"
    return ""


def observations_key(run: Run, entry: SourceEntry, source: Key, sample: Key) -> Key:
    """Key of all that decides the observations of a source and a dataset; `source` is the key of its weights."""
    study = run.study
    return content_key(
        source=source,
        sample=sample,
        normalisation=study.normalisation,
        float16=study.keep_features,
        arithmetic=FEATURES_ARITHMETIC,
        libraries=library_versions(entry.libraries),
    )


def score_key(observations: Key, metric: str, source_sample: Key | None) -> Key:
    """Key of a score; `source_sample` is the key of the source's own dataset as a sample, None where it is unavailable.

    Empty where there can be no score: the metric is unknown, or needs the source's own images.
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
