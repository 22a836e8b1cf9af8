"""A small world, crops of it, and networks of no library as tasks, for the tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.records import list_records
from seg_transfer.models.heads import with_new_head
from seg_transfer.models.normalization import Normalization
from seg_transfer.models.reading import read_network
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.schedule import Schedule
from seg_transfer.training.task import SegmentationTask

SCHEDULE = Schedule(steps=6, batch_size=2, learning_rate=0.05, warmup_steps=2, checkpoint_every=2)


class TwoLayers(nn.Module):
    """A convolution and a norm at stride 2 with dropout, and a 1x1 classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.stem(images)))))


class Block(nn.Module):
    """One residual block of a transformer of one stride."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mlp(self.norm(tokens))


class Blocks(nn.Module):
    """A backbone without a head, for sides that are multiples of 8: patches, a position embedding, three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 1, 8))
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.last = nn.LayerNorm(8)
        self.unused = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        height, width = (side // 8 for side in images.shape[2:])
        tokens = self.patches(images).flatten(2).movedim(1, -1) + self.pos_embed
        tokens = self.last(self.blocks(tokens))
        return (tokens.movedim(-1, 1).unflatten(2, (height, width)),)


class Stages(nn.Module):
    """Layers of strides 2, 4 and 8, a decoder at stride 4, and a 3x3 classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.first = nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 1))
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 1))
        self.decoder = nn.Conv2d(14, 6, 1)
        self.head = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.first(torch.relu(self.stem(images)))
        coarse = F.interpolate(self.second(fine), size=fine.shape[2:], mode="bilinear")
        return self.head(torch.relu(self.decoder(torch.cat([fine, coarse], dim=1))))


def crops_of(world: Path, schedule: Schedule = SCHEDULE) -> TrainingCrops:
    """Crops of the training images of one dataset of a world."""
    manifest = load_manifest(world / "manifests" / "day_street.yaml")
    return TrainingCrops(list_records(manifest, world, "source_train"), manifest, schedule, seed=3)


def task_for(network: Callable[[], nn.Module], crops: TrainingCrops, seed: int = 3, **reading: Any) -> SegmentationTask:
    """Give a network with weights of a seed a new last layer for the classes of the crops."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = network()
    manifest = crops.manifest
    source = read_network(built, Normalization(manifest.mean, manifest.std), **reading)
    return SegmentationTask(with_new_head(source, len(manifest.classes), seed), manifest.ignore_index)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all tensors of two networks are bit-equal."""
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())
