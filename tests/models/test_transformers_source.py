"""Local folders of the transformers library as sources, without a network and without code from the folder."""

import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch
from seg_transfer.models import load_source
from seg_transfer.models.checkpoints import load_checkpoint, save_weights
from seg_transfer.models.compat import quiet
from seg_transfer.models.specs import TransformersSource
from seg_transfer.models.transformers_folder import read_folder
from seg_transfer.observations import PixelSample

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
PREPROCESSOR = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
}


@pytest.fixture(scope="module")
def library() -> Any:
    with quiet():
        return pytest.importorskip("transformers")


def segformer(library: Any) -> Any:
    config = library.SegformerConfig(
        num_labels=5,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=24,
    )
    return library.SegformerForSemanticSegmentation(config)


def upernet(library: Any) -> Any:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = library.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )
    config = library.UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=5, auxiliary_channels=8, auxiliary_in_channels=24
    )
    return library.UperNetForSemanticSegmentation(config)


def mobilenet(library: Any) -> Any:
    return library.MobileNetV2ForSemanticSegmentation(library.MobileNetV2Config(num_labels=5, depth_multiplier=0.25))


def mobilevit(library: Any) -> Any:
    config = library.MobileViTConfig(
        num_labels=5, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 16, 16, 24, 32, 40, 64], aspp_out_channels=16
    )
    return library.MobileViTForSemanticSegmentation(config)


def beit(library: Any) -> Any:
    config = library.BeitConfig(
        num_labels=5,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[1, 2, 3, 4],
    )
    return library.BeitForSemanticSegmentation(config)


def dpt(library: Any) -> Any:
    config = library.DPTConfig(
        num_labels=5,
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    return library.DPTForSemanticSegmentation(config)


def written(folder: Path, library: Any, make: Callable[[Any], Any] = segformer, **changes: Any) -> Any:
    """A folder with a network of random weights, and the network."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(4)
        network = make(library).eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        network.config.save_pretrained(folder)
    save_weights(network.state_dict(), folder / "model.safetensors")
    if changes.get("preprocessor", True) is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | changes.get("preprocessor", {})))
    return network


def images(n: int = 2, height: int = 64, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, 5, 7, generator=generator)
    coarse[:, 2] *= 0.3
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).to(torch.uint8)


def normalised(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def refusal(folder: Path, kind: type[Exception] = ConfigError, **fields: Any) -> str:
    with pytest.raises(kind) as caught:
        load_source(TransformersSource(folder, **fields))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder))
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "n_features", "size"),
    [
        (segformer, 24, (64, 96)),
        (upernet, 16, (64, 96)),
        (mobilenet, 256, (64, 96)),
        (mobilevit, 16, (64, 96)),
        (beit, 24, (64, 96)),
        (dpt, 8, (64, 64)),
    ],
)
def test_models_of_the_library(tmp_path, library, make, n_features, size):
    """The features are those that the model's own logits are a linear function of, up to an enlargement."""
    network = written(tmp_path, library, make)
    source = load_source(TransformersSource(tmp_path))
    pixels = images(2, *size)
    maps = source.feature_maps(pixels)
    assert (source.n_features, source.n_classes, source.channel_order) == (n_features, 5, "rgb")
    weight, bias = source.classifier.weight.double()[:, :, 0, 0], source.classifier.bias.double()
    linear = torch.einsum("cd,bdhw->bchw", weight, maps.features.double()) + bias[:, None, None]
    with quiet(), torch.inference_mode():
        logits = network(normalised(pixels)).logits.double()
    resized = F.interpolate(linear, size=logits.shape[2:], mode="bilinear", align_corners=make is dpt)
    torch.testing.assert_close(resized, logits, atol=1e-4 * float(logits.abs().max()), rtol=1e-4)
    assert maps.scores.std() > 0.01


def test_probabilities_at_pixels_are_the_softmax_of_the_models_own_logits(tmp_path, library):
    network = written(tmp_path, library)
    pixels, generator = images(), np.random.default_rng(0)
    n, (_, _, height, width) = 500, pixels.shape
    rows, columns = generator.integers(0, height, n), generator.integers(0, width, n)
    sample = PixelSample(
        image_ids=("a", "b"),
        image_sizes=np.full((2, 2), (height, width)),
        image_index=np.repeat([0, 1], [n - 130, 130]),
        rows=rows,
        columns=columns,
        labels=(rows > 40).astype(np.int64),
    )
    seen = extract(load_source(TransformersSource(tmp_path)), [ImageBatch((0, 1), pixels.numpy())], sample)
    with torch.inference_mode():
        logits = network(normalised(pixels)).logits
    whole = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    expected = whole.softmax(dim=1)[sample.image_index, :, rows, columns].numpy()
    np.testing.assert_allclose(seen.source_probs, expected, atol=1e-5)
    assert seen.features.shape == (n, 24)


def test_a_model_of_half_precision_or_in_an_old_file_is_the_same(tmp_path, library):
    network = written(tmp_path, library)
    expected = load_source(TransformersSource(tmp_path)).feature_maps(images())
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    again = load_source(TransformersSource(tmp_path)).feature_maps(images())
    assert torch.equal(again.features, expected.features)
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "pytorch_model.bin")
    half = load_source(TransformersSource(tmp_path)).feature_maps(images())
    assert half.features.dtype == torch.float32
    torch.testing.assert_close(half.features, expected.features, atol=0.02, rtol=0.02)


def test_shards_are_read_together(tmp_path, library):
    network = written(tmp_path, library)
    expected = load_source(TransformersSource(tmp_path)).feature_maps(images())
    (tmp_path / "model.safetensors").unlink()
    state = list(network.state_dict().items())
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for name, part in zip(names, (state[:9], state[9:]), strict=True):
        save_weights(dict(part), tmp_path / name)
    weight_map = {key: names[position >= 9] for position, (key, _) in enumerate(state)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(load_source(TransformersSource(tmp_path)).feature_maps(images()).features, expected.features)


def test_scores_only_are_the_logits(tmp_path, library):
    network = written(tmp_path, library)
    source = load_source(TransformersSource(tmp_path, scores_only=True))
    maps = source.feature_maps(images())
    with torch.inference_mode():
        logits = network(normalised(images())).logits
    assert maps.features is None
    torch.testing.assert_close(maps.scores, logits, atol=1e-5, rtol=1e-4)


def test_nothing_is_asked_of_a_network_and_the_library_is_left_as_it_was(tmp_path, library, monkeypatch):
    import huggingface_hub.constants as constants

    connections: list[object] = []

    def connects(*arguments: object, **_options: object) -> None:
        connections.append(arguments)
        raise OSError("a source is read from its folder alone")

    written(tmp_path, library)
    before = constants.HF_HUB_OFFLINE, library.utils.logging.get_verbosity()
    monkeypatch.setattr(socket.socket, "connect", connects)
    monkeypatch.setattr(socket, "getaddrinfo", connects)
    load_source(TransformersSource(tmp_path))
    assert (constants.HF_HUB_OFFLINE, library.utils.logging.get_verbosity()) == before
    config = json.loads((tmp_path / "config.json").read_text())
    foreign = dict.fromkeys(("attn_implementation", "_attn_implementation"), "someone/kernels")
    (tmp_path / "config.json").write_text(json.dumps(config | foreign))
    load_source(TransformersSource(tmp_path))
    (tmp_path / "config.json").write_text(
        json.dumps(
            {**config, "model_type": "upernet", "backbone": "microsoft/resnet-50", "use_pretrained_backbone": True}
        )
    )
    with pytest.raises((ConfigError, CheckpointError)):
        load_source(TransformersSource(tmp_path))
    assert connections == []


# Wrong folders


def test_a_model_of_masks_is_refused(tmp_path, library):
    written(tmp_path, library)
    with quiet():
        library.Mask2FormerConfig().save_pretrained(tmp_path)
    assert "mask2former has no model that answers with one logit per pixel and class" in refusal(tmp_path)


def test_code_in_a_folder_is_not_run(tmp_path, library, monkeypatch):
    written(tmp_path, library)
    monkeypatch.chdir(tmp_path)
    harm = "from pathlib import Path\nPath('harmed').touch()\n"
    (tmp_path / "configuration_x.py").write_text(harm)
    (tmp_path / "modeling_x.py").write_text(harm)
    maps = {"AutoConfig": "configuration_x.X", "AutoModelForSemanticSegmentation": "modeling_x.X"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": maps}))
    assert "not a config of transformers" in refusal(tmp_path)
    config = segformer(library).config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": maps}))
    load_source(TransformersSource(tmp_path))
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
        assert "refused" in refusal(tmp_path, CheckpointError)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {n: t for n, t in state.items() if "classifier.bias" not in n}, "missing keys in its weights"),
        (lambda state: {**state, "more": torch.zeros(2)}, "unexpected keys in its weights, such as more"),
        (lambda state: {**state, "decode_head.classifier.bias": torch.zeros(7)}, "weights"),
    ],
)
def test_weights_of_another_config_are_refused(tmp_path, library, change, told):
    written(tmp_path, library)
    file = tmp_path / "model.safetensors"
    save_weights(change(load_checkpoint(file)), file)
    assert told in refusal(tmp_path, CheckpointError)


def test_without_the_library_the_extra_is_named(tmp_path, library, monkeypatch):
    written(tmp_path, library)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert "pip install 'seg_transfer[transformers]'" in refusal(tmp_path)


def test_a_folder_that_is_unknown_to_the_library_is_refused(tmp_path, library):
    written(tmp_path, library)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    assert "not a config of transformers" in refusal(tmp_path)


# Normalisation


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
def test_images_are_normalised_as_the_preprocessor_says(tmp_path, library, preprocessor, mean, std, order):
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
    scores = load_source(TransformersSource(tmp_path)).feature_maps(images()).scores
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-3)


def test_a_given_mean_or_std_replaces_that_of_the_folder(tmp_path, library):
    written(tmp_path, library)
    found = read_folder(tmp_path, std=(0.9, 0.8, 0.7))
    assert (found.mean, found.std) == (pytest.approx(MEAN), (0.9, 0.8, 0.7))
    (tmp_path / "preprocessor_config.json").unlink()
    assert read_folder(tmp_path, MEAN, STD).mean == MEAN
    assert "has no preprocessor_config.json; give the source's mean and std" in refusal(tmp_path, mean=MEAN)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.json", "{", "not a JSON file"),
        ("config.json", "[]", "holds a list, a mapping is expected"),
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
def test_a_wrong_file_is_named(tmp_path, library, name, text, told):
    written(tmp_path, library)
    (tmp_path / name).write_text(text)
    assert told in refusal(tmp_path)


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
