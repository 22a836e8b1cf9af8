"""Sources that read different features of one network share its forward passes, and get the scores of their own."""

from pathlib import Path
from typing import Any

import pytest
from other_nets import MEAN, STD, write_net

from seg_transfer.models.source_model import feature_maps_of
from seg_transfer.selection.rank import rank_sources

READINGS: dict[str, Any] = {"last": None, "stages": "stages", "stem": ["stem"]}


def entry(folder: Path, name: str, **fields: Any) -> dict[str, Any]:
    own = {"factory": "nets:Pyramid", "factory_folder": folder, "weights": folder / "Pyramid.safetensors"}
    return {"name": name, "dataset": "elsewhere", **own, "classifier": "head", "mean": MEAN, "std": STD, **fields}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of readings of each forward pass over images of a target."""
    seen: list[int] = []

    def counted(sources: Any, *words: Any, **options: Any) -> Any:
        seen.append(len(sources))
        return feature_maps_of(sources, *words, **options)

    monkeypatch.setattr("seg_transfer.features.extract.feature_maps_of", counted)
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
    assert passes == [3] * 5
    alone = {}
    for name in READINGS:
        alone |= scores(tmp_path, small_world, [name], "gbc", tmp_path / name)
    assert passes == [3] * 5 + [1] * 15
    assert together == alone
    # The last layer's input is the sine of the stem, which is the only map of this network.
    assert len(set(together.values())) == 2
    assert together["stages"] == together["stem"] != together["last"]


def test_maps_that_are_features_are_no_scores_of_another_reading(tmp_path, small_world, passes):
    """Without a classifier, `features` says that a factory's network gives features: it is no reading of its scores."""
    write_net(tmp_path, "Pyramid")
    trunk = {**entry(tmp_path, "trunk", features=["stem"]), "classifier": None}
    scoring = entry(tmp_path, "scoring")
    manifest, metric = small_world / "manifests" / "day_street.yaml", "gbc"
    both = [
        rank_sources(manifest, order, metric=metric, data_root=small_world).scores
        for order in ([trunk, scoring], [scoring, trunk])
    ]
    alone = scores(tmp_path, small_world, ["last"], metric, tmp_path / "alone")
    assert both[0] == both[1]
    assert both[0]["scoring"] == alone["last"]
    assert passes == [1] * 25


def test_sources_of_scores_alone_are_no_readings(tmp_path, small_world, passes):
    write_net(tmp_path, "Pyramid")
    twins = [
        {**entry(tmp_path, name, scores_only=True, learning_rate=rate), "classifier": None}
        for name, rate in (("a", 0.1), ("b", 0.2))
    ]
    manifest = small_world / "manifests" / "day_street.yaml"
    found = rank_sources(manifest, twins, metric="leep", data_root=small_world).scores
    assert found["a"] == found["b"]
    assert passes == [1] * 10
