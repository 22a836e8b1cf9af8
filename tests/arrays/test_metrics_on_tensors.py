"""Every metric gives the same numbers for tensors as for NumPy, on all golden inputs."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from golden_numbers import inputs
from metric_versions import observations

from seg_transfer.arrays.device import DeviceArrays
from seg_transfer.errors import ObservationsError
from seg_transfer.metrics import METRICS, Metric, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.observations import Observations

CASES = ("balanced_f32", "imbalanced_f64", "leep_zero_column", "one_sample_class", "rank_deficient", "source_pair")
# Of one pair, and of what is installed.
NAMES = [name for name, metric in METRICS.items() if "scores" not in metric.needs and metric.installed]
TOLERANCE = 1e-10


def golden(name: str) -> Observations:
    """A golden input, with what it lacks: images, embeddings, numbers of pixels and the source's own images."""
    case, rng = inputs(name), np.random.default_rng(len(name))
    n, width = case["X"].shape
    own_features = case.get("Xs", case["X"][::2] + rng.normal(size=(-(-n // 2), width)))
    own_labels = case.get("ys", rng.integers(0, 4, len(own_features)))
    own = Observations(
        own_features,
        own_labels,
        image_index=np.arange(len(own_labels)) % 7,
        image_embeddings=rng.normal(size=(7, width)),
    )
    images, class_pixels = np.arange(n) * 12 // n, 100 * np.unique(case["y"], return_counts=True)[1]
    return Observations(
        case["X"], case["y"], case["P"], images, rng.normal(size=(12, width)), own, class_pixels=class_pixels
    )


@cache
def pair(name: str) -> tuple[Observations, Observations]:
    """Observations in NumPy, and the same in tensors."""
    given = observations()[name] if name in ("a", "b") else golden(name)
    return given, on_tensors(given)


def on_tensors(given: Observations) -> Observations:
    own = given.source_images
    return replace(
        given,
        features=torch.from_numpy(given.features),
        source_probs=None if given.source_probs is None else torch.from_numpy(given.source_probs),
        source_images=None if own is None else on_tensors(own),
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", [*CASES, "a", "b"])
def test_scores_and_replicates_agree(case, name):
    in_numpy, in_torch = pair(case)
    expected, found = (score_all(given, [name])[name] for given in (in_numpy, in_torch))
    assert found.score == pytest.approx(expected.score, rel=TOLERANCE, abs=1e-300)
    assert found.replicates == pytest.approx(expected.replicates, rel=TOLERANCE, abs=1e-300)


def test_small_blocks_of_a_device_change_nothing(monkeypatch):
    _, in_torch = pair("a")
    expected = {name: score.score for name, score in score_all(in_torch, NAMES).items()}
    monkeypatch.setattr("seg_transfer.arrays.device.BLOCK_ROWS", 13)
    found = {name: score.score for name, score in score_all(in_torch, NAMES).items()}
    assert found == pytest.approx(expected, rel=TOLERANCE)


# Metrics that copy a few thousand observations: their solvers run in NumPy.
COPYING = {"parc", "ccfv", "pactran", "knn", "linear_probe", "linear_probe_miou", "otdd", "otce"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - COPYING))
def test_only_sums_reach_numpy(name, monkeypatch):
    """No copy holds the features of the observations: at N = 6000, all are far smaller."""
    given = observations()["a"]
    in_torch = on_tensors(replace(given.subset(np.ones(len(given.labels), bool)), image_embeddings=None))
    repeated = np.tile(np.arange(len(given.labels)), 25)
    in_torch = replace(
        in_torch,
        features=in_torch.features[repeated],
        source_probs=in_torch.source_probs[repeated],
        labels=in_torch.labels[repeated],
        image_index=in_torch.image_index[repeated],
        image_embeddings=given.image_embeddings,
    )
    sizes, to_host = [], DeviceArrays.to_host
    monkeypatch.setattr(
        DeviceArrays, "to_host", lambda self, values: sizes.append(values.numel()) or to_host(self, values)
    )
    score_all(in_torch, [name])
    assert max(sizes, default=0) < in_torch.features.numel() / 2


def test_a_plain_function_gets_numpy():
    def deviation(given: Observations) -> float:
        return float(given.features.astype(np.float64).std())

    metric = Metric.from_function(deviation, needs={"features"}, version=1)
    expected, found = (metric.scores(Statistics.ungrouped(given)) for given in pair("a"))
    assert found == pytest.approx(expected, rel=1e-12)


def test_values_that_no_metric_takes_are_found_on_a_device():
    features = np.ones((4, 2))
    features[2, 1] = np.nan
    labels = np.array([0, 1, 0, 1])
    with pytest.raises(ObservationsError, match=r"features\[2, 1\] is nan"):
        Observations(torch.from_numpy(features), labels)
    with pytest.raises(ObservationsError, match=r"source_probs\[1\] sums to 1.5"):
        Observations(None, labels, torch.tensor([[0.5, 0.5], [1.0, 0.5], [1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(ObservationsError, match=r"features have dtype|features has dtype"):
        Observations(torch.ones((4, 2), dtype=torch.int64), labels)
