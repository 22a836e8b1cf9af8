"""Observations of the source's own images, for metrics that compare them with the target's."""

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics._base import check_setting
from seg_transfer.observations import Observations


def source_images_of(observations: Observations) -> Observations:
    """Return the observations of the source's own images, for a metric that declares that it needs them.

    Raises:
        ObservationsError: They cannot be compared with the target's.
    """
    source = observations.source_images
    assert observations.features is not None
    assert source is not None
    if source.features is None:
        raise ObservationsError(
            "source_images have no features; the metric needs features of both sides: extract them too"
        )
    if source.features.shape[1] != observations.features.shape[1]:
        raise ObservationsError(
            f"features have {observations.features.shape[1]} channels and those of source_images "
            f"{source.features.shape[1]}; both must come from the same source: extract them again"
        )
    return source


def subsampled_pair(observations: Observations, max_observations: int, seed: int) -> tuple[Observations, Observations]:
    """Return at most ``max_observations`` of the target's observations, and as many of the source's own."""
    check_setting(max_observations >= 2, "max_observations", max_observations, "2 or more")
    source = source_images_of(observations)
    target, own = (side.subsample(max_observations, seed).in_numpy() for side in (observations, source))
    return target, own
