"""Local folders of the transformers library as sources, without a network and without code from the folder."""

import json
import socket
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers_nets import (
    beit,
    dpt,
    entry,
    images,
    mobilenet,
    mobilevit,
    normalized,
    segformer,
    transformers_library,
    upernet,
    written,
)

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.compat import quiet
from seg_transfer.observations import PixelSample


@pytest.fixture(scope="module")
def library() -> Any:
    return transformers_library()


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
    source = entry(tmp_path).load()
    pixels = images(2, *size)
    maps = source.feature_maps(pixels)
    assert (source.n_features, source.n_classes, source.normalization.channel_order) == (n_features, 5, "rgb")
    weight, bias = source.classifier.weight.double()[:, :, 0, 0], source.classifier.bias.double()
    (features,) = maps.features
    linear = torch.einsum("cd,bdhw->bchw", weight, features.double()) + bias[:, None, None]
    with quiet(), torch.inference_mode():
        logits = network(normalized(pixels)).logits.double()
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
    seen = extract(entry(tmp_path).load(), [ImageBatch((0, 1), pixels.numpy())], sample)
    with torch.inference_mode():
        logits = network(normalized(pixels)).logits
    whole = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    expected = whole.softmax(dim=1)[sample.image_index, :, rows, columns].numpy()
    np.testing.assert_allclose(seen.source_probs, expected, atol=1e-5)
    assert seen.features.shape == (n, 24)


def test_a_model_of_half_precision_or_in_an_old_file_is_the_same(tmp_path, library):
    network = written(tmp_path, library)
    (expected,) = entry(tmp_path).load().feature_maps(images()).features
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (again,) = entry(tmp_path).load().feature_maps(images()).features
    assert torch.equal(again, expected)
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "pytorch_model.bin")
    (half,) = entry(tmp_path).load().feature_maps(images()).features
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=0.02, rtol=0.02)


def test_shards_are_read_together(tmp_path, library):
    network = written(tmp_path, library)
    (expected,) = entry(tmp_path).load().feature_maps(images()).features
    (tmp_path / "model.safetensors").unlink()
    state = list(network.state_dict().items())
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for name, part in zip(names, (state[:9], state[9:]), strict=True):
        save_weights(dict(part), tmp_path / name)
    weight_map = {key: names[position >= 9] for position, (key, _) in enumerate(state)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (features,) = entry(tmp_path).load().feature_maps(images()).features
    assert torch.equal(features, expected)


def test_scores_only_are_the_logits(tmp_path, library):
    network = written(tmp_path, library)
    source = entry(tmp_path, scores_only=True).load()
    maps = source.feature_maps(images())
    with torch.inference_mode():
        logits = network(normalized(images())).logits
    assert maps.features == ()
    torch.testing.assert_close(maps.scores, logits, atol=1e-5, rtol=1e-4)


def test_nothing_is_downloaded_and_the_library_is_left_unchanged(tmp_path, library, monkeypatch):
    import huggingface_hub.constants as constants

    connections: list[object] = []

    def connects(*arguments: object, **_options: object) -> None:
        connections.append(arguments)
        raise OSError("a source is read from its folder alone")

    written(tmp_path, library)
    before = constants.HF_HUB_OFFLINE, library.utils.logging.get_verbosity()
    monkeypatch.setattr(socket.socket, "connect", connects)
    monkeypatch.setattr(socket, "getaddrinfo", connects)
    entry(tmp_path).load()
    assert (constants.HF_HUB_OFFLINE, library.utils.logging.get_verbosity()) == before
    config = json.loads((tmp_path / "config.json").read_text())
    foreign = dict.fromkeys(("attn_implementation", "_attn_implementation"), "someone/kernels")
    (tmp_path / "config.json").write_text(json.dumps(config | foreign))
    entry(tmp_path).load()
    (tmp_path / "config.json").write_text(
        json.dumps(
            {**config, "model_type": "upernet", "backbone": "microsoft/resnet-50", "use_pretrained_backbone": True}
        )
    )
    with pytest.raises((ConfigError, CheckpointError)):
        entry(tmp_path).load()
    assert connections == []
