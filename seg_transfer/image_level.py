"""Transferability to image classification: one observation per image, and many targets out of one labeled dataset.

The metrics are those of segmentation: they take features (N, D) and labels (N,), and here a row is an image. Two
experiments use them:

* Fixed source: one network, with 100 random subsets of a dataset's classes as targets. Which target does it suit?
* Fixed target: many networks on one target. Which network suits it?

`class_subset_study` makes the pairs of both, in the form that `seg_transfer.evaluation.evaluate` takes. One dataset is
one study: accuracies of different datasets belong in different frames.

The targets with 2 % to 100 % of the classes are from Nguyen, Hassner, Archambeau, Seeger, "LEEP: A New Measure to
Evaluate Transferability of Learned Representations", ICML 2020. Both experiments are from Pandy, Agostinelli,
Uijlings, Mensink, Ferrari, "Transferability Estimation using Bhattacharyya Class Separability", CVPR 2022, tables 1
and 2.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seg_transfer.errors import ConfigError, ObservationsError, ResultsError
from seg_transfer.evaluation import SCRATCH
from seg_transfer.metrics import score_all
from seg_transfer.observations import IntArray, Observations
from seg_transfer.sampling import keyed_words

Classes = npt.NDArray[np.integer[Any]]
Accuracy = Callable[[str, Classes], float]


def image_observations(
    features: npt.NDArray[Any], labels: npt.NDArray[Any], source_probs: npt.NDArray[Any] | None = None
) -> Observations:
    """Return the observations of N labeled images through one source, one observation per image.

    The features also serve as the image embeddings, and the images are numbered so that scores have standard errors.

    Args:
        features: (N, D), pooled over the image, or maps (N, D, H, W), which are averaged over the image.
        labels: (N,) integers.
        source_probs: (N, C_s), the source's softmax for the whole image.

    Raises:
        ObservationsError: As `Observations` does.

    Example:
        >>> maps = np.arange(16.0).reshape(2, 2, 2, 2)
        >>> image_observations(maps, np.array([3, 5])).features.tolist()
        [[1.5, 5.5], [9.5, 13.5]]
    """
    features = np.asarray(features)
    if features.ndim == 4:
        features = features.mean(axis=(2, 3), dtype=np.float64)
    return Observations(features, labels, source_probs, np.arange(len(labels)), features)


def class_subsets(
    n_classes: int, *, n_draws: int = 100, low: float = 0.02, high: float = 1.0, seed: int = 0
) -> list[IntArray]:
    """Draw random subsets of the classes 0 .. n_classes - 1: the targets of a fixed source.

    The number of classes is uniform over the integers from ``low * n_classes`` to ``high * n_classes``, but at least 2;
    the choice of classes is uniform without replacement. A draw depends only on the seed, ``n_classes`` and its number,
    so that more draws leave the first ones unchanged. Few classes have few subsets; draws then repeat. The release of
    the CVPR 2022 authors never draws all classes (its upper end is exclusive); here 100 % is included.

    Args:
        n_classes: Number of classes of the dataset.
        n_draws: Number of subsets, 1 or more.
        low: The smallest share of the classes, in [0, 1].
        high: The largest share of the classes, in [0, 1].
        seed: Seed of the draws.

    Returns:
        The subsets, each (n,) in ascending order.

    Raises:
        ConfigError: 0 <= low <= high <= 1 does not hold, no integer of 2 or more classes lies between them, or
            ``n_draws`` is below 1.

    Example:
        >>> [subset.tolist() for subset in class_subsets(5, n_draws=3)]
        [[0, 1, 2, 3, 4], [1, 3, 4], [1, 2, 3, 4]]
    """
    if n_draws < 1:
        raise ConfigError(f"n_draws is {n_draws}; draw at least 1 subset of the classes")
    fewest, most = _range_of_sizes(n_classes, low, high)
    return [_draw_classes(n_classes, fewest, most, seed, draw) for draw in range(n_draws)]


def observations_of_subset(observations: Observations, classes: Sequence[int] | Classes) -> Observations:
    """Select the observations of some classes, in the same order and with the same labels.

    Args:
        observations: Observations of all classes.
        classes: The labels to keep, at least 2.

    Raises:
        ObservationsError: One of the classes has no observation.

    Example:
        >>> observations = image_observations(np.array([[1.0], [2.0], [3.0]]), np.array([7, 8, 9]))
        >>> observations_of_subset(observations, [7, 9]).features.tolist()
        [[1.0], [3.0]]
    """
    absent = np.setdiff1d(classes, observations.classes)
    if len(absent):
        raise ObservationsError(
            f"class {absent[0]} has no observation; choose among the {len(observations.classes)} classes "
            f"{observations.classes[0]} .. {observations.classes[-1]} of the labels"
        )
    return observations.subset(np.isin(observations.labels, classes))


def class_subset_study(
    observations_by_source: Mapping[str, Observations],
    subsets: Iterable[Sequence[int] | Classes],
    accuracy: Accuracy,
    metrics: Iterable[str],
    *,
    scratch: bool = False,
) -> pd.DataFrame:
    """Compute scores and accuracy of every source on every subset of the classes: the pairs that `evaluate` takes.

    Name the metrics when you call `evaluate` (``metrics=``), because the column ``classes`` is not a metric.

    Args:
        observations_by_source: Source -> observations of the same N images with all their labels, as
            `image_observations` returns them.
        subsets: Subsets of the labels, as `class_subsets` draws them; ``[classes]`` with all classes is the one target
            of a fixed-target ranking. A repeated subset is the same target and counts once.
        accuracy: Called as ``accuracy(source, classes)`` once per pair, with ascending classes; the actual performance
            on that target after retraining the head or fine-tuning: the fraction in [0, 1] of images classified
            correctly, among images that the metrics do not see.
        metrics: Names in METRICS; the observations must have everything that these metrics need.
        scratch: Also ask for ``accuracy("scratch", classes)``, the control of fine-tuning, which is never scored.

    Returns:
        One row per pair: source, target ("subset_007" is the eighth of the subsets), miou, n_target_classes, classes
        (text) and a column per metric. ``miou`` is the evaluation's name for actual performance, and holds the
        accuracy here: pass ``performance="accuracy"`` to the tables of `seg_transfer.reports.tables`.

    Raises:
        ObservationsError: The labels of two sources differ, or a class has no observations.
        ResultsError: An accuracy is outside [0, 1], or there are observations of "scratch".
        ConfigError: A metric is unknown.

    Example:
        >>> images = image_observations(np.array([[0.0], [2.0], [4.0], [6.0], [9.0]]), np.array([0, 0, 1, 1, 2]))
        >>> study = class_subset_study({"net": images}, [[0, 1], [0, 2]], lambda source, classes: 0.5, ["h_score"])
        >>> study["target"].tolist(), study["h_score"].round(3).tolist()
        (['subset_000', 'subset_001'], [0.8, 0.955])
    """
    _check_sources(observations_by_source)
    names, rows = list(metrics), []
    for target, classes in _distinct_subsets(subsets).items():
        head = {"target": target, "n_target_classes": len(classes), "classes": " ".join(map(str, classes))}
        for source, observations in observations_by_source.items():
            scores = score_all(observations_of_subset(observations, classes), names, standard_errors=False)
            performance = _call_accuracy(accuracy, source, target, classes)
            rows.append({"source": source, **head, "miou": performance} | {name: scores[name].score for name in names})
        if scratch:
            rows.append({"source": SCRATCH, **head, "miou": _call_accuracy(accuracy, SCRATCH, target, classes)})
    return pd.DataFrame(rows, columns=["source", "target", "miou", "n_target_classes", "classes", *names])


def _range_of_sizes(n_classes: int, low: float, high: float) -> tuple[int, int]:
    # Round first: 0.07 * 100 is 7.000000000000001, whose ceiling would be 8 instead of 7.
    fewest = max(2, math.ceil(round(low * n_classes, 9)))
    most = math.floor(round(high * n_classes, 9))
    if not 0 <= low <= high <= 1 or fewest > most:
        raise ConfigError(
            f"low {low} and high {high} of {n_classes} classes leave no number of classes to draw; "
            "choose fractions 0 <= low <= high <= 1 with an integer of 2 or more classes between them"
        )
    return fewest, most


def _draw_classes(n_classes: int, fewest: int, most: int, seed: int, draw: int) -> IntArray:
    words = keyed_words([int(seed), "class subset", n_classes, draw], 1 + n_classes)
    size = fewest + (int(words[0]) * (most - fewest + 1) >> 64)
    return np.sort(np.argsort(words[1:], kind="stable")[:size]).astype(np.int64)


def _distinct_subsets(subsets: Iterable[Sequence[int] | Classes]) -> dict[str, Classes]:
    """Return name -> ascending classes, for every subset that does not repeat an earlier one."""
    first: dict[tuple[int, ...], str] = {}
    for number, subset in enumerate(subsets):
        first.setdefault(tuple(np.unique(subset).tolist()), f"subset_{number:03d}")
    return {name: np.array(classes) for classes, name in first.items()}


def _check_sources(observations_by_source: Mapping[str, Observations]) -> None:
    if SCRATCH in observations_by_source:
        raise ResultsError(f"source {SCRATCH!r} is the name of a control, which has no observations; rename the source")
    labels = [observations.labels for observations in observations_by_source.values()]
    for source, own_labels in zip(observations_by_source, labels, strict=True):
        if not np.array_equal(own_labels, labels[0]):
            raise ObservationsError(
                f"source {source} has different labels than source {next(iter(observations_by_source))}; "
                "all sources must see the same images in the same order"
            )


def _call_accuracy(accuracy: Accuracy, source: str, target: str, classes: Classes) -> float:
    value = float(accuracy(source, classes))
    if not 0 <= value <= 1:
        raise ResultsError(f"pair {source} -> {target} has accuracy {value}; it must be a fraction in [0, 1]")
    return value
