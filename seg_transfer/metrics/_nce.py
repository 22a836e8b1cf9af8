"""NCE: how much the source's predicted class says about the target's label."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, source_probs_of
from seg_transfer.observations import IntArray, Observations
from seg_transfer.observations.passes import counts_of_largest


def nce(source_probs: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the negative conditional entropy, -H(Y | Z).

    Tran et al., "Transferability and Hardness of Supervised Classification Tasks", ICCV 2019. Z is the class to which
    the source gives the highest probability (the first of equal ones).

    Args:
        source_probs: (N, C_s), non-negative rows with sum 1.
        labels: (N,) integers, C classes.

    Returns:
        A number in [-log C, 0], in nats; higher is better.

    Raises:
        ObservationsError: A row is not a distribution, or there are fewer than two classes or observations.

    Example:
        >>> nce(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([3, 3, 8]))
        0.0
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(None, labels, source_probs))))


def negative_conditional_entropy(joint: npt.NDArray[Any]) -> float:
    """Compute -H(Y | Z) in nats from joint weights of any sum, (C, C_z)."""
    total = xlogy(joint, joint).sum() - xlogy(joint.sum(axis=0), joint.sum(axis=0)).sum()
    return min(float(total / joint.sum()), 0.0)


def _scores(statistics: Statistics) -> Scores:
    counts = _joint_counts(statistics)
    total = counts.sum(axis=0)
    return [_score(total), *(_score(total - counts[group]) for group in statistics.left_out)]


def _score(joint: IntArray) -> float | None:
    return negative_conditional_entropy(joint) if np.count_nonzero(joint.any(axis=1)) > 1 else None


def _joint_counts(statistics: Statistics) -> IntArray:
    """Count observations by group, label and most probable source class, (n_groups, C, C_s)."""
    n_classes = len(statistics.observations.classes)
    keys, n_keys = statistics.groups * n_classes + statistics.observations.codes, statistics.n_groups * n_classes
    return counts_of_largest(source_probs_of(statistics), keys, n_keys).reshape(statistics.n_groups, n_classes, -1)


METRIC = Metric(
    name="nce",
    version=1,
    needs=frozenset({"source_probs"}),
    range="[-log C, 0]",
    cost="N C_s",
    reference="Tran et al., Transferability and Hardness of Supervised Classification Tasks, ICCV 2019",
    scores=_scores,
    settings={},
    additive=True,
)
