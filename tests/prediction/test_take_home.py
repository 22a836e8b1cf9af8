"""What a source card says of the input of a network, and what stays out of cards that lack it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from data.conftest import plain_manifest
from source_cards import source_card

from seg_transfer.data.label_ids import class_indices
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.models.sizes import InputSizes
from seg_transfer.prediction.predictor import Predictor, code_in
from seg_transfer.prediction.standalone.load import Segmenter
from seg_transfer.prediction.take_home import loader_text, model_description, network_input
from seg_transfer.store.source_card import read_source_card, write_source_card


def manifest(**changes: Any) -> DatasetManifest:
    return DatasetManifest.model_validate(plain_manifest(**changes))


def test_a_card_says_how_images_become_the_input(tmp_path: Path, predictor: Callable[..., Predictor]) -> None:
    dataset = manifest(
        images={"exif": "apply", "range": [0, 4095]}, tiles={"above": 900, "size": 30}, crop_size=[48, 32]
    )
    taken = network_input(predictor(multiple=16).source, dataset)
    assert (taken.short_side, taken.mean, taken.channel_order) == (32, (0.5,) * 3, "rgb")
    assert (taken.multiple, taken.square, taken.fixed) == (16, False, None)
    assert (taken.images, taken.tiles) == (dataset.images, dataset.tiles)
    write_source_card(source_card("net", input=taken, labels=class_indices(2)), tmp_path)
    read = read_source_card(tmp_path / "source.json")
    assert (read.input, read.labels) == (taken, class_indices(2))


@pytest.mark.parametrize(
    "sizes",
    [InputSizes(), InputSizes(fixed=(40, 56)), InputSizes(multiple=14, square=True), InputSizes(8, smallest=90)],
)
def test_the_loader_fits_images_as_we_do(predictor: Callable[..., Predictor], sizes: InputSizes) -> None:
    taken = network_input(replace(predictor().source, sizes=sizes), manifest())
    images = torch.randn(1, 3, 37, 61, generator=torch.Generator().manual_seed(1))
    loaded = Segmenter(torch.nn.Identity(), None, {"input": json.loads(taken.model_dump_json())})
    fitted, extent = loaded._fit(images)
    expected = sizes.fit(images)
    assert torch.equal(fitted, expected[0])
    assert extent == expected[1]


def test_cards_of_older_versions_stay_as_they_are(tmp_path: Path) -> None:
    write_source_card(source_card("net"), tmp_path)
    content = json.loads((tmp_path / "source.json").read_text())
    assert not content.keys() & {"labels", "input"}
    read = read_source_card(tmp_path / "source.json")
    assert (read.labels, read.input) == (None, None)


def test_only_networks_of_transformers_need_more_than_their_description(predictor: Callable[..., Predictor]) -> None:
    network = predictor().source.network
    for model in ({"type": "EncoderDecoder"}, {"kind": "timm", "architecture": {}}):
        assert model_description(model, network) == model


def test_the_code_of_a_factory_is_announced() -> None:
    made = {"kind": "factory", "architecture": {"factory": "nets:make", "folder": "/code"}}
    assert code_in(source_card("net", model=made)) == ["factory nets:make (looked for in /code)"]
    assert code_in(source_card("net", model={"kind": "timm", "architecture": {}})) == []


def test_the_loader_is_one_file_without_this_package() -> None:
    text = loader_text()
    assert "seg_transfer" not in text
    compile(text, "load.py", "exec")
    assert text.count("from __future__") == 1
