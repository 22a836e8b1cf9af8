"""Backbones of timm as tasks: fine-tuned, described as plain data, and built again from that."""

import json
from pathlib import Path

import pytest
import torch
from toy_nets import NORMALIZATION
from training.trainings import SCHEDULE
from transformers_kinds import detr, mask2former, oneformer, saved
from transformers_nets import entry, transformers_library

from seg_transfer.errors import TrainingError
from seg_transfer.models.adapters.timm import TimmEntry
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.compat import import_torchvision
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.loading import load_source_model, trained_spec
from seg_transfer.models.reading import read_network
from seg_transfer.training.fit import fit
from seg_transfer.training.layers import find_units
from seg_transfer.training.task import SegmentationTask


@pytest.mark.parametrize(("name", "n_units"), [("test_vit", 6), ("test_convnext", 4), ("test_resnet", 5)])
def test_a_backbone_of_timm_is_fine_tuned_and_built_again(crops, tmp_path: Path, name: str, n_units: int):
    import_torchvision()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    save_weights(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "weights.safetensors")
    entry = TimmEntry(name="net", dataset="elsewhere", timm=name, weights=tmp_path / "weights.safetensors")
    crops.schedule = SCHEDULE.model_copy(update={"steps": 2, "optimizer": "adamw", "layer_decay": 0.5})
    task = SegmentationTask(with_new_head(entry.load(), len(crops.manifest.classes), 1), 255)
    assert task.head == ["network.classifier.weight", "network.classifier.bias"]
    before = {key: tensor.clone() for key, tensor in task.state_dict().items()}
    fit(task, crops, tmp_path / "work").eval()
    changed = {key for key, tensor in task.named_parameters() if not torch.equal(before[key], tensor)}
    # Blocks whose last norm starts at zero pass on no gradient at first.
    assert changed > set(task.head)
    assert find_units(task).count == n_units

    spec = json.loads(json.dumps(trained_spec(entry, task.source, task.source.n_classes, task.source.normalization)))
    save_weights(task.network.state_dict(), tmp_path / "trained.safetensors")
    again = load_source_model(spec, tmp_path / "trained.safetensors")
    images = torch.randint(0, 256, (1, 3, 51, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    found, expected = again.feature_maps(images), task.source.feature_maps(images)
    assert torch.equal(found.scores, expected.scores)
    assert found.extent == expected.extent


@pytest.mark.parametrize("make", [mask2former, oneformer, detr])
def test_the_layer_that_classifies_queries_is_the_head(crops, tmp_path: Path, make):
    saved(tmp_path / "net", transformers_library(), make)
    crops.schedule = SCHEDULE.model_copy(update={"steps": 1, "batch_size": 1, "freeze": "backbone"})
    task = SegmentationTask(with_new_head(entry(tmp_path / "net").load(), len(crops.manifest.classes), 1), 255)
    assert task.network.get_submodule(task.network.class_layer).out_features == len(crops.manifest.classes) + 1
    before = {key: tensor.clone() for key, tensor in task.state_dict().items()}
    fit(task, crops, tmp_path / "work")
    changed = {key for key, tensor in task.state_dict().items() if not torch.equal(before[key], tensor)}
    assert changed == set(task.head) == {f"network.{task.network.class_layer}.{part}" for part in ("weight", "bias")}


class Replacing(torch.nn.Module):
    """A network that replaces its classes itself, and does not say in which layer."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 12, 3, padding=1)
        self.last = torch.nn.Conv2d(12, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.trunk(images)).tanh()

    def replace_classes(self, n_classes: int, generator: torch.Generator) -> None:
        self.last = torch.nn.Conv2d(12, n_classes, 1)


@pytest.mark.parametrize("change", [{"freeze": "backbone"}, {"head_learning_rate_factor": 10.0}])
def test_a_head_that_is_unknown_is_not_taken_for_a_frozen_one(crops, tmp_path: Path, change):
    crops.schedule = SCHEDULE.model_copy(update={"steps": 1, **change})
    source = read_network(Replacing(), NORMALIZATION, features="stages")
    task = SegmentationTask(with_new_head(source, len(crops.manifest.classes), 1), 255)
    with pytest.raises(TrainingError, match="which layer of the network is its new last one is unknown"):
        fit(task, crops, tmp_path / "work")
