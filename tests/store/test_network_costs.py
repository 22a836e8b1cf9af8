"""Costs of networks in a run folder: kept for the weights they belong to, and never a reason to fail."""

import json

import pytest

from seg_transfer.store.network_costs import NetworkCosts, costs_file, read_costs, write_costs

COSTS = NetworkCosts(4_652_008, 4.1, 512, 512)


@pytest.mark.parametrize("costs", [COSTS, NetworkCosts(7, None, 224, 448), NetworkCosts(7, 1.0, 224, 448, "ab12")])
def test_costs_are_read_as_they_were_written(tmp_path, costs):
    write_costs(tmp_path, "net", "a1", costs)
    assert read_costs(tmp_path, "net", "a1") == costs


def test_costs_of_other_weights_are_unknown(tmp_path):
    assert read_costs(tmp_path, "net", "a1") is None
    write_costs(tmp_path, "net", "a1", COSTS)
    assert read_costs(tmp_path, "net", "b2") is None
    assert read_costs(tmp_path, "other", "a1") is None
    write_costs(tmp_path, "net", "b2", NetworkCosts(8, 1.0, 512, 512))
    assert read_costs(tmp_path, "net", "b2") == NetworkCosts(8, 1.0, 512, 512)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"source_key": "a1"}', '{"source_key": "a1", "parameters": "many"}'])
def test_a_damaged_file_counts_as_missing(tmp_path, text):
    write_costs(tmp_path, "net", "a1", COSTS)
    costs_file(tmp_path, "net").write_text(text)
    assert read_costs(tmp_path, "net", "a1") is None


@pytest.mark.parametrize("gflops", [float("nan"), float("inf"), "much", True])
def test_operations_that_are_no_number_are_unknown(tmp_path, gflops):
    write_costs(tmp_path, "net", "a1", COSTS)
    stored = json.loads(costs_file(tmp_path, "net").read_text())
    costs_file(tmp_path, "net").write_text(json.dumps({**stored, "gflops": gflops}))
    assert read_costs(tmp_path, "net", "a1") == NetworkCosts(COSTS.parameters, None, 512, 512)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "costs").write_text("a file in the way")
    write_costs(tmp_path, "net", "a1", COSTS)
    assert read_costs(tmp_path, "net", "a1") is None
