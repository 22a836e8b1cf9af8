"""How many operations a metric asks of a device: each costs a GPU as much time as thousands of rows."""

from typing import Any

import numpy as np
import pytest
import torch
from loaded_scripts import script
from torch.utils._python_dispatch import TorchDispatchMode

from seg_transfer.metrics import METRICS

benchmark = script("benchmark_gpu_metrics")


class Counted(TorchDispatchMode):
    """Counts the operations of torch, views too."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        return function(*args, **(kwargs or {}))


def n_operations(name: str, n_classes: int) -> int:
    given = benchmark.on_device(benchmark.observations_of(3000, 8, n_classes, 4, 300), "cpu")
    assert len(given.classes) == n_classes
    with Counted() as counted:
        benchmark.score_of(METRICS[name], benchmark.by_groups(given))
    return counted.n


@pytest.mark.parametrize("name", ["gbc", "leep", "nleep", "knn", "sfda", "ridge_probe"])
def test_operations_hardly_grow_with_the_number_of_classes(name):
    """With ten times as many classes; N-LEEP has five components for each."""
    assert n_operations(name, 30) < 4 * n_operations(name, 3)


def test_operations_are_counted():
    with Counted() as counted:
        torch.from_numpy(np.ones(3)) + 1
    assert counted.n >= 1
