"""What is built from a description is bounded by the weights that it is built for."""

from pathlib import Path

import pytest
import torch
from torch import nn

from seg_transfer.errors import ComputationError, ConfigError
from seg_transfer.models.memory import bounded_memory, refuse_large_numbers

MB = 1 << 20


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "w.pth").write_bytes(bytes(MB))
    return tmp_path / "w.pth"


def refusal(weights: Path, *, layers: int = 1, width: int = 1) -> str:
    with pytest.raises(ComputationError) as caught, bounded_memory("card", [weights]):
        nn.ModuleList(nn.Linear(width, width, device="meta") for _ in range(layers))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_of_the_size_of_its_weights_is_built(weights):
    with bounded_memory("card", [weights]):
        assert nn.Linear(500, 500).weight.numel() == 250_000


def test_an_index_stands_for_its_shards(weights):
    index = weights.with_name("model.safetensors.index.json")
    index.write_text('{"weight_map": {"weight": "w.pth", "bias": "w.pth"}}')
    with bounded_memory("card", [index]):
        assert nn.Linear(500, 500).weight.numel() == 250_000
    assert f"more than {MB // 16 + 1000} parameters" in refusal(index, layers=1 << 20)


def test_more_parameters_than_the_file_can_name_are_refused(weights):
    assert refusal(weights, layers=1 << 20).startswith("card: its description asks for more memory")
    assert f"more than {MB // 16 + 1000} parameters" in refusal(weights, layers=1 << 20)


def test_more_numbers_than_the_file_can_hold_are_refused(weights):
    assert f"parameters of {1 << 40} numbers" in refusal(weights, width=1 << 20)


def test_memory_of_any_use_is_bounded_where_the_system_can(weights):
    with (
        pytest.raises(ComputationError, match="card: its description asks for more memory"),
        bounded_memory("card", [weights]),
    ):
        torch.zeros(1 << 44)
    with pytest.raises(ComputationError, match="card"), bounded_memory("card", [weights]):
        bytearray(1 << 45)


def test_afterward_nothing_is_bounded(weights):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    refusal(weights, width=1 << 20)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert nn.Linear(1 << 20, 1 << 20, device="meta").in_features == 1 << 20


def test_other_failures_stay_as_they_are(weights):
    with pytest.raises(RuntimeError, match="of another kind"), bounded_memory("card", [weights]):
        raise RuntimeError("of another kind")


@pytest.mark.parametrize("value", [1 << 30, {"a": [{"b": -(1 << 40)}]}, [[10**4000]]])
def test_numbers_that_are_no_sizes_are_refused(value):
    with pytest.raises(ConfigError) as caught:
        refuse_large_numbers(value, "card")
    assert len(str(caught.value)) < 250
    refuse_large_numbers({"sizes": [1 << 24, 3.0, "x", None, True]}, "card")
