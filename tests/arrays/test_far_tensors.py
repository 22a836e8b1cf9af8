"""Every metric scores tensors that meet no host array on their way, as on a GPU; those of sums copy sums alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from far_tensors import Far, FarDevice
from loaded_scripts import script

from seg_transfer.metrics import METRICS
from seg_transfer.observations import Observations

benchmark = script("benchmark_gpu_metrics")
# Whose steps copy parameters, more or fewer with every sample; the other metrics without this setting take sums.
FITTED = {"nleep"}
SAMPLED = {name for name in benchmark.names() if {"max_observations", "max_images"} & METRICS[name].settings.keys()}
FAR = torch.device("cpu")


def observations(n: int) -> Observations:
    given: Observations = benchmark.observations_of(n, 6, 4, 5, n // 10)
    return replace(given, class_pixels=100 * np.ones(len(given.classes), int))


def far(given: Observations) -> Observations:
    features, probs = (torch.from_numpy(each).to(FAR) for each in (given.features, given.source_probs))
    return replace(given, features=features, source_probs=probs)


@pytest.mark.parametrize("name", benchmark.names())
def test_no_metric_mixes_the_two_sides(name):
    given, metric = observations(300), METRICS[name]
    expected = metric.scores(benchmark.by_groups(given), **metric.settings)
    with FarDevice():
        there = far(given)
        assert isinstance(there.features, Far)
        found = metric.scores(benchmark.by_groups(there), **metric.settings)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", sorted(set(benchmark.names()) - SAMPLED - FITTED))
def test_twice_the_observations_are_no_more_bytes_for_the_host(name):
    copied = []
    for n in (300, 600):
        with FarDevice() as device:
            there = far(observations(n))
            METRICS[name].scores(benchmark.by_groups(there), **METRICS[name].settings)
        copied.append(sum(device.copied))
    assert copied[0] == copied[1]


def test_the_two_sides_never_mix():
    with FarDevice() as device:
        there, here = torch.ones(2).to(FAR), torch.ones(2)
        assert isinstance(there + 1, Far)
        assert isinstance(torch.zeros(2, device=FAR) + there, Far)
        for mix in (
            lambda: there + here,
            lambda: here @ there,
            lambda: there * np.ones(2),
            lambda: torch.cat([there, here]),
            lambda: there[np.array([0])],
            lambda: there.numpy(),
            lambda: np.asarray(there),
        ):
            with pytest.raises(RuntimeError, match="far tensor"):
                mix()
        with pytest.raises(TypeError, match="Far"):
            np.ones(2) * there
        assert device.copied == []
        assert type(there.cpu() + here) is torch.Tensor
    assert device.copied == [8]
