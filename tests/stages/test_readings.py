"""Sources that read different features of one network share its forward passes, and get the scores of their own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from other_nets import MEAN, STD, write_net
from torch import nn

from seg_transfer.selection.rank import rank_sources

READINGS: dict[str, Any] = {"last": None, "stages": "stages", "stem": ["stem"]}


def entry(folder: Path, name: str, **fields: Any) -> dict[str, Any]:
    own = {"factory": "nets:Pyramid", "factory_folder": folder, "weights": folder / "Pyramid.safetensors"}
    return {"name": name, "dataset": "elsewhere", **own, "classifier": "head", "mean": MEAN, "std": STD, **fields}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The sizes of all images that networks see, apart from those by which sources are read."""
    seen: list[tuple[int, ...]] = []

    def counted(network: nn.Module, images: Any) -> object:
        seen.append(tuple(images.shape[2:]))
        with torch.inference_mode():
            return network(images)

    monkeypatch.setattr("seg_transfer.models.source_model.run_network", counted)
    return seen


def scores(folder: Path, world: Path, readings: list[str], metric: str, tmp_path: Path) -> dict[str, float]:
    entries = [entry(folder, name, features=READINGS[name]) for name in readings]
    manifest = world / "manifests" / "day_street.yaml"
    ranking = rank_sources(manifest, entries, metric=metric, data_root=world, run_folder=tmp_path)
    assert not ranking.failed
    return dict(ranking.scores)


def test_one_forward_pass_per_image_for_all_readings(tmp_path, small_world, passes):
    write_net(tmp_path, "Pyramid")
    together = scores(tmp_path, small_world, list(READINGS), "gbc", tmp_path / "together")
    n_images = len(passes)
    assert n_images == 5
    alone = {}
    for name in READINGS:
        alone |= scores(tmp_path, small_world, [name], "gbc", tmp_path / name)
    assert len(passes) == 4 * n_images
    assert together == alone
    # The last layer's input is the sine of the stem, which is the only map of this network.
    assert len(set(together.values())) == 2
    assert together["stages"] == together["stem"] != together["last"]
