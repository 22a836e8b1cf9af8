"""Ranking models by name: one that cannot be had stops no other, and the second run needs no network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback, serving
from zoo_server import TINY_NAME, only_loopback, tiny_zoo

TARGET = "day_street"
GONE = "gone_1xb1-1k_camvid-64x64"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with serving() as loopback:
        only_loopback(loopback, tmp_path, monkeypatch)
        configs = tiny_zoo(loopback, tmp_path, monkeypatch)
        (configs / f"{GONE}.py").write_text("")
        with (configs / "metafile.yaml").open("a") as metafile:
            metafile.write(f"- Name: {GONE}\n  Weights: https://download.openmmlab.com/gone-00000000.pth\n")
        yield loopback


@pytest.mark.parametrize("metric", ["gbc", "leep"])
def test_models_by_name_are_ranked(metric, server, small_world, tmp_path, invoke, monkeypatch):
    target = ["--target", small_world / f"manifests/{TARGET}.yaml", "--data-root", small_world]
    models = [f"mmseg:{TINY_NAME}", f"mmseg:{GONE}", "transformers:org/none", "timm:hf-hub:org/nothing"]
    words = ["rank", *models, *target, "--metric", metric, "--json"]
    first = invoke(*words, "--run-folder", tmp_path / "first")
    assert first.err.splitlines()[0].startswith("downloading ")
    assert f"seg-transfer: {GONE} -> {TARGET}: {server.url}/mirror/gone-" in first.err
    answer: dict[str, Any] = json.loads(first.out)
    assert answer["best"] == TINY_NAME
    skipped = answer["skipped"]
    assert skipped.keys() == {GONE, "none", "nothing"}
    assert skipped[GONE].startswith(f"{server.url}/mirror/gone-00000000.pth: cannot be downloaded (HTTP 404 Not Found)")
    for name in ("none", "nothing"):
        assert skipped[name].startswith(f"org/{name}: ")
    monkeypatch.setenv("SEG_TRANSFER_OFFLINE", "1")
    server.requests.clear()
    again = json.loads(invoke(*words, "--run-folder", tmp_path / "second").out)
    assert server.requests == []
    assert again["ranking"][0]["score"] == answer["ranking"][0]["score"]
    assert "downloads are off" in again["skipped"][GONE]
