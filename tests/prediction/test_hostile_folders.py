"""Folders of trained networks from strangers: what predicts from them runs and opens nothing that they name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_cards import source_card

from seg_transfer.data.label_ids import LabelIds
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.errors import CheckpointError, DataError
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.prediction.classes import parts_of
from seg_transfer.prediction.standalone.load import load
from seg_transfer.store.source_card import FILE_NAME, read_source_card, write_source_card

CONFIG = {"model_type": "segformer"}
LIBRARY = {"class": "SegformerForSemanticSegmentation", "config": CONFIG, "attention": "eager", "layout": None}


def folder_of(folder: Path, model: dict[str, Any], **fields: Any) -> Path:
    """Write the folder of a trained network of any description, with the harmless weights of another one."""
    folder.mkdir()
    save_weights({"weight": torch.zeros(2)}, folder / "weights.safetensors")
    described = {"n_classes": 2, "classifier": None, "linear_head": [], **model}
    write_source_card(source_card("net", model=described, **fields), folder)
    return folder


def of(kind: str, **architecture: Any) -> dict[str, Any]:
    return {"kind": kind, "architecture": architecture}


@pytest.mark.filterwarnings("ignore")  # of libraries, when they are imported
@pytest.mark.parametrize(
    "model",
    [
        {"type": "subprocess.run", "args": ["touch", "MARKER"]},
        of("timm", model="test_vit", arguments={"checkpoint_path": "SECRET"}),
        of("timm", model="hf-hub:evil/net"),
        of("timm", model="local-dir:SECRET"),
        of("smp", model="Unet", arguments={"encoder_name": "tu-hf-hub:evil/net"}),
        of("torchvision", model="os.system"),
        of("transformers", role="semantic") | {"library": {**LIBRARY, "class": "Trainer"}},
        of("transformers", role="semantic") | {"library": {**LIBRARY, "class": "pipeline"}},
        of("transformers", role="semantic") | {"library": {**LIBRARY, "attention": "evil/kernel"}},
        of("factory", factory="evil_nets:make", folder="HERE"),
        of("os"),
    ],
)
def test_load_py_runs_and_opens_nothing_that_a_card_names(tmp_path, model, monkeypatch):
    (tmp_path / "evil_nets.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\n")
    (tmp_path / "secret").write_bytes(b"")
    places = {"MARKER": tmp_path / "marker", "SECRET": tmp_path / "secret", "HERE": tmp_path}
    text = json.dumps(model)
    for word, place in places.items():
        text = text.replace(word, str(place))
    folder = folder_of(tmp_path / "kept", json.loads(text))
    # Most are refused by a library, in its own words.
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError)):
        load(folder)
    assert not (tmp_path / "marker").exists()


def test_load_py_says_that_a_network_needs_code_and_which(tmp_path):
    folder = folder_of(tmp_path / "kept", of("factory", factory="evil_nets:make", folder="/code"))
    with pytest.raises(PermissionError, match=r"built by evil_nets:make, Python code .* in /code; .* trust_code=True"):
        load(folder)


def test_load_py_reads_weights_of_its_folder_only(tmp_path):
    save_weights({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    folder = folder_of(tmp_path / "kept", of("timm", model="test_vit"), weights="../other.safetensors")
    with pytest.raises(FileNotFoundError):
        load(folder)


def test_a_side_beyond_memory_is_one_line(predictor):
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(DataError, match=r"photo: its shorter side would be resized to 1000000 pixels"):
        predictor(short_side=10**6).predict(image, "photo")


def test_tiles_of_a_pixel_are_refused():
    with pytest.raises(DataError, match="5000 x 5000 pixels in tiles of 1 are more than 32768 tiles"):
        parts_of(5000, 5000, Tiles(above=1, size=1))
    assert len(parts_of(10_000, 17_000, Tiles(above=1, size=128))) <= 32768


def test_a_palette_of_too_many_colors_is_a_damaged_card(tmp_path):
    labels = LabelIds(kind="palette", ids=(0, 1), palette=((0, 0, 0),) * 2)
    folder = folder_of(tmp_path / "kept", of("timm"), labels=labels)
    card = json.loads((folder / FILE_NAME).read_text())
    card["labels"]["palette"] = [[0, 0, 0]] * 257
    (folder / FILE_NAME).write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"labels.palette has 257 colors; at most 256"):
        read_source_card(folder / FILE_NAME)


def test_a_link_in_the_place_of_a_label_map_is_replaced_and_not_followed(predictor, paint, tmp_path):
    from seg_transfer.prediction.images import plan_tasks
    from seg_transfer.prediction.run import predict_images

    paint(tmp_path / "images/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("text")
    (tmp_path / "out/a.png").symlink_to(tmp_path / "precious")
    predict_images(predictor(), plan_tasks([tmp_path / "images"], tmp_path / "out", overlay=False))
    assert (tmp_path / "precious").read_text() == "text"
    with Image.open(tmp_path / "out/a.png") as written:
        assert written.size == (33, 20)
