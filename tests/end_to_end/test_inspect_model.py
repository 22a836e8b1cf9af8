"""inspect-model: what networks are read as, one after another; those that fail stop no other."""

import json
from typing import Any

import pytest
import torch
import yaml

from seg_transfer.models.adapters.factory import FactoryEntry

# As its definition in tests/other_nets.py says: stride 2, 6 channels, 3 classes.
PARAMETERS = 6 * 28 + 2 * 3 * 7
GFLOPS = 2 * 256 * 256 * (27 * 6 + 2 * 6 * 3) / 1e9


@pytest.fixture
def bank(own_copy: Any) -> Any:
    """The bank of the sources of `mixed`, which the study does not train."""
    entries = [entry for entry in own_copy.study_fields()["sources"] if isinstance(entry, dict)]
    entries[1]["license"] = "BSD-3-Clause"
    file = own_copy.study.parent / "bank.yaml"
    file.write_text(yaml.safe_dump({"sources": entries}))
    return file


def test_every_network_of_a_bank_is_described(bank, invoke):
    ended = invoke("inspect-model", str(bank), "--json", "--trust-config", "--device", "cpu")
    assert (ended.code, ended.err) == (0, "")
    models = {model["name"]: model for model in json.loads(ended.out)}
    assert list(models) == ["tokens", "dictionary", "prototypes", "segformer"]
    dictionary = models["dictionary"]
    assert dictionary["features"] == [{"layer": "input of head", "stride": 2, "channels": 6}]
    assert dictionary["classifier"] == {"name": "head", "kind": "convolution", "kernel": [1, 1]}
    assert dictionary["costs"] == {
        "parameters": PARAMETERS,
        "gflops": pytest.approx(GFLOPS, rel=1e-12),
        "height": 512,
        "width": 512,
        "revision": None,
        "family": "nets:Dictionary, 6 at stride 2",
    }
    assert (dictionary["kind"], dictionary["license"], dictionary["n_classes"]) == ("factory", "BSD-3-Clause", 3)
    assert models["tokens"]["sizes"]["multiple"] == 8
    assert models["tokens"]["normalization"]["channel_order"] == "bgr"
    assert models["prototypes"]["features"] == []
    assert [one["stride"] for one in models["segformer"]["stages"]] == [4, 8, 16, 32]


def test_a_table_per_network_says_the_same(bank, invoke, monkeypatch):
    # As if the factory's code and weights were those of a repository.
    monkeypatch.setattr(FactoryEntry, "weights_revision", "0123abcd")
    ended = invoke("inspect-model", str(bank), "--trust-config", "--device", "cpu")
    text = " ".join(ended.out.split())
    for words in (
        "network Dictionary (factory), trained on elsewhere",
        "family nets:Dictionary, 6 at stride 2",
        "class scores 3 classes, by 1 x 1 convolution head",
        "class scores 4 classes, by linear layer head",
        "features 6 channels 6 at stride 2: input of head",
        "images any size; RGB, mean",
        "images sizes with sides that are multiples of 8; BGR, mean",
        "features none: class scores only",
        f"parameters {PARAMETERS} ",
        "for an image of 512 x 512 pixels",
        "commit 0123abcd",
        "license BSD-3-Clause",
    ):
        assert words in text, words


def test_a_network_that_fails_stops_no_other(bank, invoke):
    (bank.parent / "Tokens.safetensors").write_bytes(b"no weights")
    ended = invoke("inspect-model", str(bank), "nowhere", "--json", "--trust-config", "--device", "cpu")
    assert [model["name"] for model in json.loads(ended.out)] == ["dictionary", "prototypes", "segformer"]
    assert ended.code == 8  # a wrong argument and a wrong checkpoint
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert "nowhere: no such folder or file; name a YAML bank" in lines[0]
    assert "tokens: " in lines[1]
    assert "Tokens.safetensors" in lines[1]
    assert lines[2].endswith("nowhere, tokens could not be inspected; fix the cause and inspect again")


def test_the_only_failure_is_the_error_of_the_command(bank, invoke):
    torch.save({}, bank.parent / "Tokens.safetensors")
    ended = invoke("inspect-model", str(bank), "--json", "--trust-config", "--device", "cpu")
    assert ended.code == 5
    (line,) = ended.err.splitlines()
    assert line.startswith("seg-transfer: tokens: ")
    assert len(json.loads(ended.out)) == 3


def test_code_is_announced_before_it_runs(bank, invoke):
    ended = invoke("inspect-model", str(bank), "--json", "--device", "cpu")
    assert ended.code == 0
    assert "is Python code and will be run" in ended.err
