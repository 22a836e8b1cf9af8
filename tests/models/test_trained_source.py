"""A source that was trained here is loaded by its card; checkpoints fit their configs or are refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine
import pytest
import torch
from source_cards import source_card
from tiny_source import TINY, images, message_of

from seg_transfer.errors import CheckpointError
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.configs import source_key
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.networks import build_network
from seg_transfer.resources import shipped
from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, write_source_card


@pytest.fixture
def trained(model: dict[str, Any], tmp_path: Path) -> Path:
    """The folder of a trained source: its card and weights of seed 7."""
    folder = tmp_path / "camvid"
    save_weights(build_network(model, seed=7).state_dict(), folder / "weights.safetensors")
    sha256 = sha256_of_file(folder / "weights.safetensors")
    card = source_card("camvid", classes=("a", "b", "c", "d", "e"), model=model, sha256=sha256, seed=7)
    write_source_card(card, folder)
    return folder


def test_a_trained_source_is_loaded_by_its_card(model, source, trained, monkeypatch):
    def runs_code(*_args: object, **_options: object) -> None:
        raise AssertionError("a card runs no config")

    monkeypatch.setattr(mmengine.Config, "fromfile", runs_code)
    loaded = load_source_model(trained / FILE_NAME)
    expected = load_source_model(model, seed=7).feature_maps(images())
    assert torch.equal(loaded.feature_maps(images()).scores, expected.scores)
    assert loaded.normalization == source.normalization
    assert not torch.equal(expected.scores, source.feature_maps(images()).scores)


def test_a_checkpoint_replaces_the_random_weights_and_those_of_a_card(model, trained, tmp_path):
    weights = tmp_path / "nine.pth"
    torch.save({"state_dict": build_network(model, seed=9).state_dict()}, weights)
    expected = load_source_model(model, seed=9).feature_maps(images()).scores
    for config in (model, trained / FILE_NAME):
        assert torch.equal(load_source_model(config, weights).feature_maps(images()).scores, expected)


def test_a_checkpoint_of_another_class_count_is_refused(model, trained):
    weights = trained / "weights.safetensors"
    with pytest.raises(CheckpointError, match=re.escape(f"{weights}: classes differ: ")):
        load_source_model(TINY, weights)


def test_missing_weights_are_named(trained):
    weights = trained / "weights.safetensors"
    weights.unlink()
    for reading in (load_source_model, source_key):
        with pytest.raises(CheckpointError, match=re.escape(f"{weights}: no such checkpoint file")) as caught:
            reading(trained / FILE_NAME)
        message_of(caught)


def test_the_key_of_a_source_is_that_of_its_network_and_weights(model, trained, tmp_path):
    def changed(what: Callable[[], object]) -> bool:
        before = source_key(trained / FILE_NAME)
        what()
        return source_key(trained / FILE_NAME) != before

    def rewrite(old: str, new: str) -> None:
        card = trained / FILE_NAME
        text = card.read_text()
        assert old in text
        card.write_text(text.replace(old, new))

    assert not changed(lambda: rewrite('"miou": 0.5', '"miou": 0.6'))
    assert changed(lambda: rewrite('"align_corners": false', '"align_corners": true'))
    before, weights = source_key(trained / FILE_NAME), trained / "weights.safetensors"
    old = sha256_of_file(weights)
    save_weights(build_network(model, seed=8).state_dict(), weights)
    with pytest.raises(CheckpointError, match="its contents differ from what"):
        source_key(trained / FILE_NAME)
    rewrite(old, sha256_of_file(weights))
    assert source_key(trained / FILE_NAME) != before
    assert source_key(TINY) != source_key(shipped("configs/models/hrnetv2_w48.py"))
    assert source_key(TINY) != source_key(TINY, trained / "weights.safetensors")
