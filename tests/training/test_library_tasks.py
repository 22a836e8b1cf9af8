"""Backbones of timm as tasks: fine-tuned, described as plain data, and built again from that."""

import json
from pathlib import Path

import pytest
import torch
from training.trainings import SCHEDULE

from seg_transfer.models.adapters.timm import TimmEntry
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.compat import import_torchvision
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.loading import load_source_model, trained_spec
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
