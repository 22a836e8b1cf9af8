"""A zoo of one tiny network, whose weights a server on 127.0.0.1 has, in place of mmsegmentation's."""

import contextlib
import hashlib
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from loopback import Loopback
from tiny_source import MEAN, STD, TINY

from seg_transfer.models.adapters import _zoo
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.networks import build_network

TINY_NAME = "tiny_1xb1-1k_camvid-64x64"


def only_loopback(server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Download from the server only, into a cache in a folder."""
    for variable in ("SEG_TRANSFER_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SEG_TRANSFER_CACHE", str(folder / "cache"))
    monkeypatch.setenv("SEG_TRANSFER_MMSEG_URL", f"{server.url}/mirror/")
    monkeypatch.setenv("SEG_TRANSFER_PYTORCH_URL", f"{server.url}/pytorch")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with contextlib.suppress(ImportError):  # the client has read its environment when it was imported
        monkeypatch.setattr(import_module("huggingface_hub.constants"), "HF_HUB_CACHE", str(folder / "hub"))


def tiny_zoo(server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the config; the weights are also in ``folder/weights.pth``."""
    configs = folder / "configs/tiny"
    configs.mkdir(parents=True)
    model = with_normalization(with_classes(read_model_config(TINY), 5), MEAN, STD)
    (configs / f"{TINY_NAME}.py").write_text(f"model = {model!r}\n")
    weights = folder / "weights.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": build_network(model, seed=3).state_dict()}, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    server.files[f"/mirror/tiny-{digest[:8]}.pth"] = weights.read_bytes()
    listed = {"Name": TINY_NAME, "Config": "x", "Weights": f"{_zoo.SERVER}/tiny-{digest[:8]}.pth"}
    (configs / "metafile.yaml").write_text(yaml.safe_dump({"Models": [listed]}, sort_keys=False))
    monkeypatch.setattr(_zoo, "_metafiles", lambda origin: iter([configs / "metafile.yaml"]))
    return configs
