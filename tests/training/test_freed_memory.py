"""What a training leaves behind is freed at once, so that one training after another fits into a GPU's memory."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from training.trainings import SCHEDULE, TwoLayers, task_for

from seg_transfer.models.adapters.timm import TimmEntry
from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.compat import import_torchvision
from seg_transfer.models.heads import with_new_head
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.fit import fit
from seg_transfer.training.task import SegmentationTask

Make = Callable[[], nn.Module]


@pytest.fixture
def without_collection() -> Iterator[None]:
    """Memory is freed only where nothing refers to it, and not by a search for circles of references."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def backbone_of_timm(folder: Path, n_classes: int) -> SegmentationTask:
    import_torchvision()
    timm = pytest.importorskip("timm")
    save_weights(timm.create_model("test_resnet").state_dict(), folder / "weights.safetensors")
    fields = {"timm": "test_resnet", "weights": folder / "weights.safetensors"}
    entry = TimmEntry(name="net", dataset="elsewhere", **fields)
    return SegmentationTask(with_new_head(entry.load(), n_classes, 1), 255)


@pytest.mark.parametrize("kind", ["mmseg", "own", "timm"])
def test_network_and_optimizer_are_freed_with_the_last_reference(
    kind: str, crops: TrainingCrops, segmentor: Make, tmp_path: Path, without_collection: None
) -> None:
    make: dict[str, Make] = {
        "mmseg": segmentor,
        "own": lambda: task_for(TwoLayers, crops),
        "timm": lambda: backbone_of_timm(tmp_path, len(crops.manifest.classes)),
    }
    crops.schedule = SCHEDULE.model_copy(update={"steps": 1, "warmup_steps": 0, "optimizer": "adamw"})
    network = fit(make[kind](), crops, tmp_path / "work")
    alive = weakref.ref(network)
    assert not [one for one in gc.get_objects() if issubclass(type(one), torch.optim.Optimizer)]
    del network
    assert alive() is None
