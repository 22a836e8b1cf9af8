"""Finds the metrics of a pair whose score would mean nothing, because what they measure is the same at every pixel."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from seg_transfer.errors import ComputationError, SegTransferError
from seg_transfer.metrics import Metric
from seg_transfer.observations import Observations
from seg_transfer.stages.base import Item

_logger = logging.getLogger(__name__)
_NOUNS = {"features": "features", "source_probs": "class probabilities"}
# Channels that ReLU has switched off are common, and metrics drop them. Where they are the majority, weights or images
# are more likely to be wrong. The number is a convention; it decides about a warning only.
_MAX_SHARE = 0.5


def constant_input_failures(
    item: Item, observations: Observations, metrics: Iterable[Metric]
) -> dict[str, SegTransferError]:
    """Return the failure, by name, of each metric whose input is the same at all sampled pixels.

    Args:
        item: The pair.
        observations: Its observations.
        metrics: The metrics to be computed.
    """
    failures: dict[str, SegTransferError] = {}
    for metric in metrics:
        constant = metric.inputs & observations.constant_inputs
        if constant:
            what, n_pixels = " and ".join(_NOUNS[one] for one in sorted(constant)), len(observations.labels)
            failures[metric.name] = ComputationError(
                f"{what} of {item.source} on {item.target} are constant: all {n_pixels} sampled pixels have the same, "
                "and a score of them would mean nothing; look at the images with 'seg-transfer inspect', or check the "
                "source's weights"
            )
    return failures


def warn_of_constant_features(item: Item, observations: Observations, warned: set[str]) -> None:
    """Warn, once per source, where more than half of the features are constant over all sampled pixels.

    Args:
        item: The pair.
        observations: Its observations.
        warned: Names of the sources that were warned of; this one is added.
    """
    if observations.features is None or item.source in warned:
        return
    n_constant, n_features = len(observations.constant_features), observations.features.shape[1]
    if _MAX_SHARE * n_features < n_constant < n_features:
        warned.add(item.source)
        _logger.warning(
            "source %s: %d of its %d features are constant on %s, and only the others are compared; check its weights "
            "and the normalization of its images",
            *(item.source, n_constant, n_features, item.target),
        )
