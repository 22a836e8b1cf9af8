"""The paper's own network, HRNetV2-W48: built, run, trained by a step, and scored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seg_transfer.data.images import read_image, read_label, resize_to_short_side
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records
from seg_transfer.features.extract import extract
from seg_transfer.features.images import TargetImages
from seg_transfer.metrics import METRICS, score_all
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.loading import as_source_model
from seg_transfer.models.networks import build_network, to_device
from seg_transfer.models.source_model import SourceModel
from seg_transfer.resources import shipped
from seg_transfer.sampling import draw_pixel_sample
from seg_transfer.training.crops import as_mmseg

N_CLASSES = 19


@pytest.fixture(scope="module")
def dataset(request: pytest.FixtureRequest) -> tuple[DatasetManifest, list[Record]]:
    """CamVid's test images where the real datasets are, else street scenes of the demonstration."""
    try:
        root: Path = request.getfixturevalue("real_data")
        manifest = load_manifest(shipped("data_manifests/small/camvid.yaml"))
    except pytest.skip.Exception:
        root = request.getfixturevalue("small_world")
        manifest = load_manifest(root / "manifests" / "day_street.yaml")
    return manifest, list_records(manifest, root, "eval")


@pytest.fixture(scope="module")
def source(dataset: tuple[DatasetManifest, list[Record]]) -> SourceModel:
    manifest, _ = dataset
    model = with_classes(read_model_config(shipped("configs/models/hrnetv2_w48.py")), N_CLASSES)
    model = with_normalization(model, manifest.mean, manifest.std)
    return as_source_model(to_device(build_network(model, seed=0), "cpu"), model)


def test_size(source):
    """65.3 million parameters, 13699 of them in the classifier: 19 classes times 720 channels and a bias."""
    assert sum(parameter.numel() for parameter in source.network.parameters()) == 65_338_819
    assert sum(parameter.numel() for parameter in source.classifier.parameters()) == 19 * 721
    assert [branch[0].conv1.out_channels for branch in source.network.backbone.stage4[0].branches] == [48, 96, 192, 384]
    assert source.n_features == 48 + 96 + 192 + 384


def test_a_real_image_of_short_side_512(source, dataset):
    image = resize_to_short_side(read_image(dataset[1][0]), 512)
    height, width = image.shape[:2]
    maps = source.feature_maps(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    assert min(height, width) == 512
    assert maps.features[0].shape == (1, 720, -(-height // 4), -(-width // 4))
    assert 128 in maps.features[0].shape[2:]
    assert maps.scores.shape == (1, N_CLASSES, *maps.features[0].shape[2:])
    assert bool(torch.isfinite(maps.features[0]).all())
    assert (maps.features[0].flatten(2).std(dim=2) > 0).float().mean() > 0.9


def test_all_metrics_of_one_pair_are_finite(source, dataset):
    manifest, records = dataset[0], dataset[1][:2]
    maps = [(record.image_id, read_label(record, manifest)) for record in records]
    sample = draw_pixel_sample(maps, 300)
    observations = extract(source, TargetImages(records, 144), sample)
    assert observations.features.shape == (600, 720)
    assert observations.source_probs.shape == (600, N_CLASSES)
    names = [name for name, metric in METRICS.items() if metric.needs <= {"features", "source_probs", "image_index"}]
    scores = score_all(observations, names)
    assert list(scores) == names
    for name, score in scores.items():
        assert np.isfinite(score.score), name


def test_one_optimization_step(source, dataset):
    """Last, for it changes the network: every layer that has a gradient moves, and the loss is that of chance."""
    from mmengine.optim import OptimWrapper  # warns on import, unless mmseg was imported before

    manifest, records = dataset
    batch = {"inputs": [], "data_samples": []}
    for record in records[:2]:
        image, label = read_image(record)[:64, :64], read_label(record, manifest)[:64, :64]
        packed = as_mmseg(image, label, record.image)
        batch["inputs"].append(packed["inputs"])
        batch["data_samples"].append(packed["data_samples"])
    network: nn.Module = source.network.train()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.1))
    losses = network.train_step(batch, optim_wrapper=optimizer)
    loss = float(losses["loss"].detach())
    assert 0.3 * np.log(N_CLASSES) < loss < 3 * np.log(N_CLASSES)
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert {"backbone.conv1.weight", "decode_head.conv_seg.weight", "decode_head.conv_seg.bias"} <= moved
    assert len(moved) > 0.9 * len(before)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())
