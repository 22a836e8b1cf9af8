"""Every metric where the observations lie: its seconds on a device and on the host, and how well the scores agree."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from benchmark_metrics import PIXELS_PER_IMAGE, complete, predicts_groups, synthetic

from seg_transfer.errors import reason_of
from seg_transfer.metrics import METRICS
from seg_transfer.metrics._base import Metric, Statistics, overall_score
from seg_transfer.observations import Observations, image_groups

# Sums in float64, in another order.
LIMIT = 1e-8
# The steps of a mixture's fit carry the last digits of these sums on, and may end elsewhere.
LIMITS = {"nleep": 1e-3}


@dataclass(frozen=True)
class Row:
    """One metric, or the pass that several share.

    Attributes:
        name: Name of the metric, or the pass.
        host, device: Seconds on either side.
        difference: Relative difference of the scores; None for a pass.
        problem: What is wrong with it; "" if nothing is.
    """

    name: str
    host: float
    device: float = 0.0
    difference: float | None = None
    problem: str = ""


def observations_of(
    n: int, width: int, n_classes: int, n_source_classes: int, pixels_per_image: int = PIXELS_PER_IMAGE
) -> Observations:
    """Make synthetic observations with all that any metric needs, at most as many of the source's own images."""
    drawn = synthetic(n, width, n_classes, n_source_classes)
    whole = complete(replace(drawn, image_index=np.arange(n) // pixels_per_image), n_source_classes)
    assert whole.source_images is not None
    return replace(whole, source_images=whole.source_images.subsample(n, seed=0))


def on_device(observations: Observations, device: str) -> Observations:
    """Copy features and probabilities to a device."""
    features, probs = (torch.from_numpy(each).to(device) for each in (observations.features, observations.source_probs))
    return replace(observations, features=features, source_probs=probs)


def names() -> list[str]:
    """List the metrics that score one pair and whose libraries are installed."""
    return [name for name, metric in METRICS.items() if "scores" not in metric.needs and metric.installed]


def compare(host: Observations, device: Observations) -> Iterator[Row]:
    """Measure the passes and every metric on both sides; a metric is measured beyond the pass that it shares."""
    sides = [(Statistics.ungrouped(each), by_groups(each)) for each in (host, device)]
    for label, (ours, theirs) in zip(("shared pass", "... by groups"), zip(*sides, strict=True), strict=True):
        yield Row(label, seconds(lambda: ours.total), seconds(lambda: theirs.total))  # noqa: B023
    for name in names():
        yield _metric(name, *(pair[predicts_groups(name)] for pair in sides))


def by_groups(observations: Observations) -> Statistics:
    """Return statistics by groups of images."""
    assert observations.image_index is not None
    return Statistics(observations, image_groups(observations.image_index))


def _metric(name: str, host: Statistics, device: Statistics) -> Row:
    metric, scores, taken = METRICS[name], list[float](), [0.0, 0.0]
    for side, statistics in enumerate((host, device)):
        try:
            taken[side] = seconds(lambda: scores.append(score_of(metric, statistics)))  # noqa: B023
        except Exception as error:  # one metric is one line
            where = ("host", "device")[side]
            problem = f"fails on the {where}: {type(error).__name__}: {reason_of(error)}"
            return Row(name, taken[0], problem=problem)
    difference, limit = relative(scores[0], scores[1]), LIMITS.get(name, LIMIT)
    problem = "" if difference <= limit else f"differs by {difference:.1e}, more than {limit:.0e}"
    return Row(name, taken[0], taken[1], difference, problem)


def score_of(metric: Metric, statistics: Statistics) -> float:
    """Compute the score of all observations."""
    return overall_score(metric.scores(statistics, **metric.settings))


def relative(one: float, other: float) -> float:
    """Return the difference of two scores relative to the first; infinity where one is not a number.

    Example:
        >>> relative(-2.0, -2.5), relative(1.0, float("nan"))
        (0.25, inf)
    """
    difference = abs(one - other) / (abs(one) or 1.0)
    return float(difference) if np.isfinite(difference) else float("inf")


def seconds(work: Callable[[], object]) -> float:
    """Measure wall seconds, with all work on the device finished before and after."""
    synchronize()
    began = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - began


def synchronize() -> None:
    """Wait for the device; the CPU is never behind."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
