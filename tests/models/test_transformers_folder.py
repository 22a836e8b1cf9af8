"""Folders of the transformers library: what is read from them, and wrong ones."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers_nets import (
    MEAN,
    PREPROCESSOR,
    STD,
    entry,
    images,
    refusal,
    segformer,
    transformers_library,
    written,
)

from seg_transfer.errors import CheckpointError
from seg_transfer.models.adapters._transformers_folder import read_folder
from seg_transfer.models.checkpoints import load_checkpoint, save_weights
from seg_transfer.models.compat import quiet


@pytest.fixture(scope="module")
def library() -> Any:
    return transformers_library()


# Wrong folders


def test_weights_of_another_kind_are_refused(tmp_path, library):
    written(tmp_path, library)
    with quiet():
        library.Mask2FormerConfig(num_labels=5).save_pretrained(tmp_path)
    assert "missing keys in its weights, such as class_predictor.bias" in refusal(tmp_path, CheckpointError)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "imagegpt"}, "ImageGPTModel takes input_ids instead of images"),
        ({"model_type": "bert"}, "BertModel takes input_ids instead of images"),
        ({"model_type": "vit", "architectures": ["ViTForSemanticSegmentation"]}, "no network of type vit for semantic"),
        ({"model_type": "dpt", "architectures": ["DPTForUniversalSegmentation"]}, "no network of type dpt for univ"),
    ],
)
def test_a_model_that_scores_no_pixels_and_has_no_maps_is_refused(tmp_path, library, config, message):
    written(tmp_path, library)
    small = {"n_layer": 1, "n_embd": 8, "n_head": 1, "hidden_size": 8, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps({**small, **config}))
    assert message in refusal(tmp_path)


def test_code_in_a_folder_is_not_run(tmp_path, library, monkeypatch):
    written(tmp_path, library)
    monkeypatch.chdir(tmp_path)
    harm = "from pathlib import Path\nPath('harmed').touch()\n"
    (tmp_path / "configuration_x.py").write_text(harm)
    (tmp_path / "modeling_x.py").write_text(harm)
    maps = {"AutoConfig": "configuration_x.X", "AutoModelForSemanticSegmentation": "modeling_x.X"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": maps}))
    line = refusal(tmp_path)
    assert "not a config of transformers" in line
    assert "its code lies in the repository, and no code of a repository is run" in line
    config = segformer(library).config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": maps}))
    entry(tmp_path).load()
    assert not (tmp_path / "harmed").exists()


class Harm:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_pickled_code_in_weights_is_not_run(tmp_path, library, monkeypatch):
    written(tmp_path, library)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for content in (pickle.dumps(Harm()), None):
        if content is None:
            torch.save({"harm": Harm()}, tmp_path / "pytorch_model.bin")
        else:
            (tmp_path / "pytorch_model.bin").write_bytes(content)
        assert "holds no weights" in refusal(tmp_path, CheckpointError)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {n: t for n, t in state.items() if "classifier.bias" not in n}, "missing keys in its weights"),
        (lambda state: {**state, "more": torch.zeros(2)}, "unexpected keys in its weights, such as more"),
        (lambda state: {**state, "decode_head.classifier.bias": torch.zeros(7)}, "weights"),
        (
            lambda state: {**state, "decode_head.classifier.bias": torch.full((5,), torch.nan)},
            "parameter decode_head.classifier.bias holds NaN or infinite values",
        ),
    ],
)
def test_weights_of_another_config_are_refused(tmp_path, library, change, message):
    written(tmp_path, library)
    file = tmp_path / "model.safetensors"
    save_weights(change(load_checkpoint(file)), file)
    assert message in refusal(tmp_path, CheckpointError)


def test_without_the_library_the_extra_is_named(tmp_path, library, monkeypatch):
    written(tmp_path, library)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert "pip install 'seg_transfer[transformers]'" in refusal(tmp_path)


def test_a_folder_that_is_unknown_to_the_library_is_refused(tmp_path, library):
    written(tmp_path, library)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    assert "not a config of transformers" in refusal(tmp_path)


# Normalization


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std", "order"),
    [
        ({}, MEAN, STD, "rgb"),
        ({"do_normalize": False}, (0, 0, 0), (1, 1, 1), "rgb"),
        ({"do_normalize": False, "do_rescale": False}, (0, 0, 0), (1 / 255,) * 3, "rgb"),
        ({"do_rescale": False, "image_mean": [102, 51, 25.5]}, (0.4, 0.2, 0.1), tuple(s / 255 for s in STD), "rgb"),
        ({"rescale_factor": 2 / 255}, tuple(m / 2 for m in MEAN), tuple(s / 2 for s in STD), "rgb"),
        ({"do_flip_channel_order": True}, MEAN[::-1], STD[::-1], "bgr"),
    ],
)
def test_images_are_normalized_as_the_preprocessor_says(tmp_path, library, preprocessor, mean, std, order):
    network = written(tmp_path, library, preprocessor=preprocessor)
    found = read_folder(tmp_path)
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    assert found.channel_order == order
    steps = PREPROCESSOR | preprocessor
    pixels = images().float().flip(1) if steps.get("do_flip_channel_order") else images().float()
    pixels = pixels * steps["rescale_factor"] if steps["do_rescale"] else pixels
    if steps["do_normalize"]:
        pixels = (pixels - torch.tensor(steps["image_mean"]).view(3, 1, 1)) / torch.tensor(steps["image_std"]).view(
            3, 1, 1
        )
    with torch.inference_mode():
        expected = network(pixels).logits
    scores = entry(tmp_path).load().feature_maps(images()).scores
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-3)


def test_a_given_mean_or_std_replaces_that_of_the_folder(tmp_path, library):
    written(tmp_path, library)
    found = read_folder(tmp_path, std=(0.9, 0.8, 0.7))
    assert (found.mean, found.std) == (pytest.approx(MEAN), (0.9, 0.8, 0.7))
    (tmp_path / "preprocessor_config.json").unlink()
    assert read_folder(tmp_path, MEAN, STD).mean == MEAN
    assert "has no preprocessor_config.json; give the source's mean and std" in refusal(tmp_path, mean=MEAN)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "not a JSON file"),
        ("config.json", "[]", "holds a list instead of a mapping"),
        ("preprocessor_config.json", '{"do_normalize": true}', "field image_mean: None: must be 3 number(s)"),
        (
            "preprocessor_config.json",
            '{"image_mean": [0, 0], "image_std": [1, 1]}',
            "field image_mean: [0, 0]: must be",
        ),
        ("preprocessor_config.json", '{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}', "must be positive"),
        ("preprocessor_config.json", '{"rescale_factor": "no"}', "field rescale_factor: ['no']: must be"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, library, name, text, message):
    written(tmp_path, library)
    (tmp_path / name).write_text(text)
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..\\secret"])
def test_shards_outside_the_folder_are_refused(tmp_path, library, name):
    written(tmp_path, library)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    line = refusal(tmp_path, CheckpointError)
    assert "field weight_map" in line
    assert "must name files of the same folder" in line


def test_a_folder_without_weights_is_named(tmp_path, library):
    written(tmp_path, library)
    (tmp_path / "model.safetensors").unlink()
    assert "has neither model.safetensors nor pytorch_model.bin" in refusal(tmp_path, CheckpointError)
