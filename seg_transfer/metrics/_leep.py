"""LEEP: log-likelihood of the target labels given the source's classes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.metrics._base import Metric, Scores, Statistics, overall_score, source_probs_of
from seg_transfer.observations import FloatArray, IntArray, Observations
from seg_transfer.observations.passes import Blocks, keyed_blocks, log_product_sums, sums_by_key

# Largest size of the sums of all groups; 4096 classes in 10 groups and 20,480 components would take 6 GiB, twice.
MAX_JOINT_BYTES = 1 << 30


def leep(source_probs: npt.NDArray[Any], labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the log expected empirical prediction.

    Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", ICML 2020: 1/N sum_i
    log sum_z P(y_i | z) p_i(z), with P(y | z) = J(y, z) / sum_y J(y, z), where J(y, z) is the mean of p_i(z) over
    all observations, with those of other labels counted as zero. A source class z to which no observation gives any
    probability contributes nothing.

    Args:
        source_probs: (N, C_s), non-negative rows with sum 1.
        labels: (N,) integers.

    Returns:
        A number in (-inf, 0], in nats; higher is better.

    Raises:
        ObservationsError: A row is not a distribution, or there are fewer than two classes or observations.

    Example:
        >>> leep(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([3, 3, 8]))
        0.0
    """
    return overall_score(_scores(Statistics.ungrouped(Observations(None, labels, source_probs))))


def _scores(statistics: Statistics) -> Scores:
    source_probs = source_probs_of(statistics)
    return leep_scores(statistics, lambda keys: keyed_blocks(source_probs, keys), source_probs.shape[1])


def leep_scores(statistics: Statistics, probabilities: Callable[[IntArray], Blocks], n_sources: int) -> Scores:
    """Compute LEEP for any p_i(z): the score of all observations, and the score without each group.

    Args:
        statistics: Labels and groups of N observations.
        probabilities: Function from keys (N,) of the observations to blocks of p_i(z), (n, Z), in the order of the
            keys, with their keys. It is called twice with the same keys; the second time, blocks may be sparse.
        n_sources: Z. With so many classes that the sums of all groups exceed 1 GiB, only the score of all observations
            is computed.
    """
    if 8 * statistics.n_groups * len(statistics.observations.classes) * n_sources > MAX_JOINT_BYTES:
        statistics = Statistics.ungrouped(statistics.observations)
    # Both passes take the observations in one order, so that the second may repeat what the first computed.
    keys = statistics.observations.codes * statistics.n_groups + statistics.groups
    shape = len(statistics.observations.classes), statistics.n_groups
    joints = sums_by_key(probabilities(keys), shape[0] * shape[1]).reshape(*shape, -1).transpose(1, 0, 2)
    samples = [joints.sum(axis=0), *(np.delete(joints, group, axis=0).sum(axis=0) for group in statistics.left_out)]
    conditionals = np.stack([label_given_source(joint) for joint in samples], axis=1)
    # Minus infinity where a set was computed without the only group that contains a class.
    logs = log_product_sums(probabilities(keys), conditionals, shape[1]).reshape(*shape, -1).sum(axis=0)
    sizes = np.bincount(statistics.groups)
    scores: Scores = [_score(logs[:, 0].sum(), sizes.sum())]
    for group in statistics.left_out:
        others = np.delete(logs[:, group + 1], group).sum()
        n_classes = np.count_nonzero(samples[group + 1].any(axis=1))
        scores.append(_score(others, sizes.sum() - sizes[group]) if n_classes > 1 else None)
    return scores


def _score(log_sum: float, n: int) -> float:
    # Rows rounded to float16 may sum to slightly more than 1; a perfect match would then score slightly above 0.
    return min(float(log_sum) / int(n), 0.0)


def label_given_source(joint: FloatArray) -> FloatArray:
    """Compute P(y | z), (C, Z), from joint weights of any sum; zero for a source class without weight."""
    mass = joint.sum(axis=0)
    conditional: FloatArray = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    return conditional


METRIC = Metric(
    name="leep",
    version=1,
    needs=frozenset({"source_probs"}),
    range="(-inf, 0]",
    cost="N C_s",
    reference="Nguyen et al., LEEP, ICML 2020",
    scores=_scores,
    settings={},
    additive=True,
)
