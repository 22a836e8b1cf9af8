"""Checkpoints that mmengine's Runner writes are read as they are, and give the features of their network."""

from pathlib import Path

import pytest
import torch
from tiny_source import images
from torch import nn

from seg_transfer.models.checkpoints import load_checkpoint, save_weights
from seg_transfer.models.compat import import_mmseg, quiet
from seg_transfer.models.configs import ModelConfig
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.networks import build_network


@pytest.fixture(scope="module")
def network(model: ModelConfig) -> nn.Module:
    network = build_network(model, seed=3)
    network.CLASSES = ("sky",)
    return network


@pytest.fixture(scope="module")
def checkpoint(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_mmseg()
    from mmengine.dataset import DefaultSampler
    from mmengine.runner import Runner
    from torch.utils.data import DataLoader

    folder = tmp_path_factory.mktemp("runner")
    rows = [torch.rand(3, 32, 32) for _ in range(2)]
    network.train_step = lambda data, optim_wrapper: _step(network, data, optim_wrapper)  # type: ignore[assignment]
    with quiet():
        runner = Runner(
            network,
            str(folder),
            train_dataloader=DataLoader(rows, batch_size=2, sampler=DefaultSampler(rows)),
            train_cfg={"by_epoch": False, "max_iters": 3},
            optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-3}},
            default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 3, "by_epoch": False}},
            experiment_name=folder.name,
            log_level="ERROR",
        )
        runner.train()
    return folder / "iter_3.pth"


def _step(network: nn.Module, data: torch.Tensor, optim_wrapper: object) -> dict[str, torch.Tensor]:
    loss = network(data, mode="tensor").square().mean()
    optim_wrapper.update_params(loss)  # type: ignore[attr-defined]
    return {"loss": loss}


def test_its_message_hub_is_what_torch_alone_refuses(checkpoint):
    with pytest.raises(Exception, match="HistoryBuffer"):
        torch.load(checkpoint, weights_only=True)
    assert torch.load(checkpoint, weights_only=False).keys() > {"message_hub", "optimizer", "meta"}


def test_its_features_are_those_of_plain_weights(checkpoint, network, model, tmp_path):
    plain = tmp_path / "plain.safetensors"
    save_weights(network.state_dict(), plain)
    expected = load_source_model(model, plain).feature_maps(images())
    found = load_source_model(model, checkpoint).feature_maps(images())
    assert torch.equal(found.features[0], expected.features[0])
    assert torch.equal(found.scores, expected.scores)
    assert found.features[0].std() > 0


def test_its_weights_are_read_without_a_network(checkpoint, network):
    found = load_checkpoint(checkpoint)
    assert list(found) == list(network.state_dict())
    assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())
