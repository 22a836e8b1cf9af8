"""Metrics of a study that look at the source's own images, need embeddings, have a note, or fail."""

from typing import Any

import numpy as np

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, Metric
from seg_transfer.metrics._rank_mean import METRIC as RANK_MEAN
from seg_transfer.observations import Observations


def metrics_with_stand_ins(observed: list[Observations]) -> dict[str, Metric]:
    """Return all metrics and four stand-ins: own (source images), pooled (embeddings), thin (a note), and faulty.

    Args:
        observed: The observations that own sees are appended to this list.
    """

    def own(statistics: Any) -> list[float]:
        observed.append(statistics.observations)
        return [float(np.mean(statistics.observations.source_images.features))]

    def pooled(statistics: Any) -> list[float]:
        return [float(np.mean(statistics.observations.image_embeddings))]

    def faulty(statistics: Any) -> list[float]:
        raise ConfigError("metric faulty needs a library that is not installed; install it")

    stand_ins = [
        Metric("own", frozenset({"features", "source_images"}), "", "", "", own, {}, version=1),
        Metric("pooled", frozenset({"image_embeddings"}), "", "", "", pooled, {}, version=1),
        Metric(
            "thin",
            frozenset({"features"}),
            "",
            "",
            "",
            lambda statistics, **_: [1.5],
            {"max_observations": 30},
            version=1,
        ),
        Metric("faulty", frozenset({"features"}), "", "", "", faulty, {}, version=1),
    ]
    return METRICS | {metric.name: metric for metric in stand_ins} | {"rank_mean": RANK_MEAN}


def scores_of(workspace: Any, metric: str) -> dict[tuple[str, str], float]:
    return {(row["source"], row["target"]): row["score"] for row in workspace.rows("scores") if row["metric"] == metric}
