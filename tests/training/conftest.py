from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn
from training.trainings import crops_of

from seg_transfer.demo.world import build_world
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.networks import build_network
from seg_transfer.resources import shipped
from seg_transfer.training.crops import TrainingCrops


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(folder, n_train=3, n_source_train=5, n_eval=2, size=(48, 64))
    return folder


@pytest.fixture
def crops(world: Path) -> TrainingCrops:
    return crops_of(world)


@pytest.fixture
def segmentor(crops: TrainingCrops) -> Callable[[], nn.Module]:
    """A function that builds the tiny network of mmsegmentation, always with the same weights."""
    model = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), len(crops.manifest.classes))
    return lambda: build_network(with_normalization(model, crops.manifest.mean, crops.manifest.std), seed=3)
