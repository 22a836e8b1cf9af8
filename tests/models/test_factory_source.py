"""Any network as a source: what it answers at the pixels is what its features and its last layer say."""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from other_nets import MEAN, STD, factory_entry, write_net
from torch import Tensor

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch
from seg_transfer.models.adapters.factory import FactoryEntry
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.observations import PixelSample

# Network -> classifier, features, classes, stride.
KNOWN = {
    "Tokens": ("head", 12, 4, 8),
    "Dictionary": ("head", 6, 3, 2),
    "Pyramid": ("head", 5, 3, 4),
}


def entry(folder: Path, network: str, **changes: Any) -> FactoryEntry:
    classifier = None if changes.get("scores_only") else KNOWN.get(network, ("head",))[0]
    whole = {"factory": f"nets:{network}", "weights": folder / f"{network}.safetensors", "classifier": classifier}
    return factory_entry(**{**whole, "folder": folder, **changes})


def images(n: int = 2, height: int = 48, width: int = 80) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, 5, 7, generator=generator)
    coarse[:, 2] *= 0.3
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).to(torch.uint8)


def normalized(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def observed(source: Any, pixels: Tensor, n: int = 300) -> Any:
    """Pixels of all images, more of the first, with labels that follow the place."""
    generator = np.random.default_rng(5)
    n_images, _, height, width = pixels.shape
    index = np.repeat(np.arange(n_images), [n - n // 3, n // 3])
    rows, columns = generator.integers(0, height, n), generator.integers(0, width, n)
    sizes = np.full((n_images, 2), (height, width))
    sample = PixelSample(
        image_ids=tuple(map(str, range(n_images))),
        image_sizes=sizes,
        image_index=index,
        rows=rows,
        columns=columns,
        labels=(rows > height // 2).astype(np.int64),
    )
    return sample, extract(source, [ImageBatch(tuple(range(n_images)), pixels.numpy())], sample)


def refusal(what: FactoryEntry, kind: type[Exception] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        what.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("network", KNOWN)
def test_networks_of_any_width_stride_and_class_count(tmp_path, network):
    net = write_net(tmp_path, network)
    classifier, n_features, n_classes, stride = KNOWN[network]
    source = entry(tmp_path, network).load()
    maps = source.feature_maps(images())
    assert (source.features_known, source.n_features, source.n_classes) == (True, n_features, n_classes)
    (features,) = maps.features
    assert features.shape == (2, n_features, 48 // stride, 80 // stride)
    layer = net.get_submodule(classifier)
    weight, bias = layer.weight.double().view(n_classes, n_features), getattr(layer, "bias", None)
    scores = torch.einsum("cd,bdhw->bchw", weight, features.double())
    scores += 0 if bias is None else bias.double()[:, None, None]
    torch.testing.assert_close(maps.scores.double(), scores, atol=1e-5, rtol=1e-5)
    assert maps.scores.std() > 0.01


@pytest.mark.parametrize("network", ["Tokens", "Dictionary"])
def test_probabilities_at_the_pixels_are_the_softmax_of_the_networks_own_answer(tmp_path, network):
    """Enlarged to the image and indexed there: another way than the one under test."""
    net = write_net(tmp_path, network)
    sample, seen = observed(entry(tmp_path, network).load(), images())
    with torch.inference_mode():
        answer = net(normalized(images()))
    scores = answer["out"] if isinstance(answer, dict) else F.interpolate(answer, size=(48, 80), mode="bilinear")
    at_pixels = scores[sample.image_index, :, sample.rows, sample.columns].softmax(dim=1)
    np.testing.assert_allclose(seen.source_probs, at_pixels.numpy(), atol=2e-5)
    assert at_pixels.std() > 0.05


def test_a_bgr_network_is_an_rgb_network_with_its_first_layer_turned(tmp_path):
    net = write_net(tmp_path, "Tokens")
    rgb = entry(tmp_path, "Tokens").load().feature_maps(images())
    state = net.state_dict()
    save_weights({**state, "stem.weight": state["stem.weight"].flip(1)}, tmp_path / "turned.safetensors")
    turned = entry(tmp_path, "Tokens", channel_order="bgr", weights=tmp_path / "turned.safetensors")
    bgr = turned.load().feature_maps(images())
    torch.testing.assert_close(bgr.features[0], rgb.features[0], atol=1e-5, rtol=1e-5)
    wrong = turned.model_copy(update={"channel_order": "rgb"}).load().feature_maps(images())
    assert not torch.allclose(wrong.features[0], rgb.features[0], atol=0.1)


@pytest.mark.parametrize(("network", "probabilities"), [("Prototypes", False), ("Probabilities", True)])
def test_scores_only(tmp_path, network, probabilities):
    net = write_net(tmp_path, network)
    source = entry(tmp_path, network, scores_only=True).load()
    assert (source.features_known, source.n_features, source.n_classes) == (False, 0, 3)
    assert source.outputs_probabilities == probabilities
    _, seen = observed(source, images())
    assert seen.features is None
    assert seen.image_embeddings is None
    with torch.inference_mode():
        answer = net(normalized(images()))
    maps = source.feature_maps(images())
    assert maps.features == ()
    expected = answer if probabilities else answer.softmax(dim=1)
    torch.testing.assert_close(maps.scores.softmax(dim=1), expected, atol=1e-6, rtol=1e-5)
    assert seen.source_probs.std() > 0.1


def test_the_same_probabilities_come_of_scores_and_of_probabilities(tmp_path):
    """Between the centers of a map too: the logarithm differs from the scores by one number per place."""
    before, after = (write_net(tmp_path, name) for name in ("Prototypes", "Probabilities"))
    assert all(torch.equal(one, other) for one, other in zip(before.parameters(), after.parameters(), strict=True))
    specs = [entry(tmp_path, name, scores_only=True) for name in ("Prototypes", "Probabilities")]
    first, second = (observed(one.load(), images())[1].source_probs for one in specs)
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "changes", "excerpt"),
    [
        ("Scaled", {}, "its class scores are not the output of its layer 'head'; leave out classifier"),
        ("Scaled", {}, "or set scores_only: true"),
        ("Prototypes", {"classifier": "unused"}, "does not use its layer 'unused'; name its last layer"),
        ("Tokens", {"classifier": "stem"}, "its class scores are not the output of its layer 'stem'"),
        ("Tokens", {"classifier": "decode.head"}, "has no layer 'decode.head'; its last ones are stem, head"),
        ("Dictionary", {"scores_only": True}, "returns 2 score maps (B, C, h, w), one is expected"),
    ],
)
def test_a_network_whose_features_or_scores_are_unknown_is_refused(tmp_path, network, changes, excerpt):
    write_net(tmp_path, network)
    line = refusal(entry(tmp_path, network, **changes))
    assert line.startswith(f"factory nets:{network}: ")
    assert excerpt in line


def test_any_of_several_maps_may_be_the_classifiers(tmp_path):
    """Here the second head of two is named, and its map is in the answer too."""
    write_net(tmp_path, "Dictionary")
    main, other = (entry(tmp_path, "Dictionary", classifier=name).load() for name in ("head", "other"))
    assert torch.equal(main.feature_maps(images()).features[0], other.feature_maps(images()).features[0])
    assert not torch.equal(main.feature_maps(images()).scores, other.feature_maps(images()).scores)


@pytest.mark.parametrize(
    ("factory", "excerpt"),
    [
        (
            "nets:no_network",
            "factory nets:no_network: returned an object of type int; it must return a torch.nn.Module",
        ),
        ("nets:fails", "factory nets:fails: cannot be run (RuntimeError: no such thing); fix it"),
        ("nets:absent", "factory nets:absent: cannot be run (AttributeError: "),
        ("nets:constant", "factory nets:constant: cannot be run (TypeError: "),
        ("no_such_module:build", "factory no_such_module:build: no module no_such_module in "),
        ("nets.deeper:build", "factory nets.deeper:build: no module nets.deeper in "),
        ("os:system", "factory os:system: cannot be run (TypeError: "),
        ("..nets:Tokens", "factory '..nets:Tokens': must be package.module:function"),
        ("nets:Tokens.eval", "must be package.module:function"),
        ("../nets:Tokens", "must be package.module:function"),
        ("nets:Tokens()", "must be package.module:function"),
    ],
)
def test_a_factory_that_fails_is_named(tmp_path, factory, excerpt):
    write_net(tmp_path, "Tokens")
    assert excerpt in refusal(entry(tmp_path, "Tokens").model_copy(update={"factory": factory}))
    assert "nets" not in sys.modules


class Harm:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_pickled_code_in_weights_is_not_run(tmp_path, monkeypatch):
    net = write_net(tmp_path, "Tokens")
    monkeypatch.chdir(tmp_path)
    torch.save({**net.state_dict(), "harm": Harm()}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Harm()))
    entry(tmp_path, "Tokens", weights=tmp_path / "evil.pth").load()
    assert "holds no weights" in refusal(entry(tmp_path, "Tokens", weights=tmp_path / "bare.pth"), CheckpointError)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("change", "excerpt"),
    [
        (
            lambda state: {name: state[name] for name in state if name != "head.bias"},
            "lacks parameter head.bias (found 3 of 4)",
        ),
        (lambda state: {**state, "more": torch.zeros(2)}, "has unknown parameter more"),
        (
            lambda state: {**state, "head.bias": torch.zeros(7)},
            "classes differ: head.bias has 7 outputs, in the network 4",
        ),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, change, excerpt):
    net = write_net(tmp_path, "Tokens")
    save_weights(change(net.state_dict()), tmp_path / "other.safetensors")
    line = refusal(entry(tmp_path, "Tokens", weights=tmp_path / "other.safetensors"), CheckpointError)
    assert line.startswith(f"{tmp_path / 'other.safetensors'}: {excerpt}")


# The module beside the study


def test_two_folders_may_have_modules_of_one_name(tmp_path):
    for folder, channels in (("one", 4), ("two", 6)):
        where = tmp_path / folder
        where.mkdir()
        (where / "parts.py").write_text(f"channels = {channels}\n")
        (where / "mine.py").write_text(
            "from torch import nn\nimport parts\ndef build():\n"
            "    return nn.Sequential(nn.Conv2d(3, parts.channels, 1), nn.Conv2d(parts.channels, 2, 1))\n"
        )
        state = {"0.weight": torch.randn(channels, 3, 1, 1), "0.bias": torch.zeros(channels)}
        state |= {"1.weight": torch.randn(2, channels, 1, 1), "1.bias": torch.zeros(2)}
        save_weights(state, where / "w.safetensors")
    before = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    for folder, channels in (("one", 4), ("two", 6), ("one", 4)):
        where = tmp_path / folder
        source = factory_entry("mine:build", where, where / "w.safetensors", "1").load()
        assert source.n_features == channels
        assert not (where / "__pycache__").exists()
    assert (set(sys.modules), list(sys.path), sys.dont_write_bytecode) == before


def test_a_module_of_the_same_name_that_is_loaded_already_comes_back(tmp_path, monkeypatch):
    write_net(tmp_path / "own", "Tokens")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "nets.py").write_text("marker = 1\n")
    monkeypatch.syspath_prepend(other)
    import nets

    entry(tmp_path / "own", "Tokens").load()
    assert sys.modules["nets"] is nets
    assert nets.marker == 1
    del sys.modules["nets"]  # not by monkeypatch, which would bring it back


def test_a_file_beside_the_study_does_not_replace_the_standard_library(tmp_path):
    write_net(tmp_path, "Tokens")
    (tmp_path / "random.py").write_text("raise SystemExit('replaced')\n")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/notes.txt").write_text("a folder of that name, and no package")
    before = sys.modules["random"], sys.modules["torch"]
    assert entry(tmp_path, "Tokens").load().n_features == 12
    assert (sys.modules["random"], sys.modules["torch"]) == before


def test_a_factory_does_not_change_the_random_state(tmp_path):
    write_net(tmp_path, "Tokens")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    entry(tmp_path, "Tokens").load()
    assert torch.equal(torch.rand(3), expected)
