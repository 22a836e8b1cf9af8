"""Times forward passes and the reading of label maps, for cost estimates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from seg_transfer.data.images import image_size, read_label, short_side_size
from seg_transfer.data.record import Record
from seg_transfer.models.configs import ModelConfig
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.loading import as_source_model
from seg_transfer.models.networks import build_network, to_device
from seg_transfer.models.source_model import SourceModel
from seg_transfer.study.networks import own_entry, target_network
from seg_transfer.study.run import Run
from seg_transfer.training.schedule import Schedule

# A training step computes a forward pass, and gradients at twice the cost of the forward pass.
_STEP_PER_FORWARD = 3
_REPEATS = 3


@dataclass(frozen=True)
class Network:
    """A network to be timed. Networks with equal names take equal time."""

    name: str
    build: Callable[[], SourceModel]


class Probe:
    """Times forward passes on a device, once per network and image size."""

    def __init__(self, run: Run, device: str) -> None:
        self.run, self.device = run, device
        self._seconds: dict[str, float] = {}
        self._seen: set[str] = set()

    def is_first_call(self, name: str) -> bool:
        """Whether this is the first call with this name."""
        is_first = name not in self._seen
        self._seen.add(name)
        return is_first

    def own_network(self, dataset: str) -> Network:
        """Return the network that the study trains for a dataset, with random weights if it is an mmseg config."""
        entry = own_entry(self.run)
        if entry is None:
            return self._segmentor(target_network(self.run, dataset))
        # Its last layer has other classes, which changes the time little.
        return Network(f"model {entry.kind}", lambda: entry.load(device=self.device))

    def source(self, entry: SourceEntry) -> Network:
        """Return a source's network, that of the study if it may not be trained yet."""
        if entry.kind == "study":
            return self.own_network(entry.dataset)
        model = entry.network(memo=self.run.memo)
        if model is not None:
            return self._segmentor(model)
        return Network(f"source {entry.name}", lambda: entry.load(device=self.device))

    def _segmentor(self, model: ModelConfig) -> Network:
        """Return an mmsegmentation network with random weights."""

        def build() -> SourceModel:
            return as_source_model(to_device(build_network(model, seed=0), self.device), model)

        return Network(str(model["backbone"]), build)

    def training(self, network: Network, dataset: str, schedule: Schedule) -> float:
        """Estimate the seconds for a whole schedule and the evaluation that follows."""
        steps = schedule.steps * self.step(network, dataset, schedule)
        return steps + self.images(network, dataset, self.run.records(dataset, "eval"))

    def step(self, network: Network, dataset: str, schedule: Schedule) -> float:
        """Estimate the seconds for one training step."""
        crop = schedule.crop_size or self.run.manifests[dataset].crop_size
        return _STEP_PER_FORWARD * schedule.batch_size * self.forward(network, crop)

    def images(self, network: Network, dataset: str, records: Sequence[Record]) -> float:
        """Estimate the seconds for a forward pass of every image, assuming that all have the size of the first."""
        size = short_side_size(*image_size(records[0]), min(self.run.manifests[dataset].crop_size))
        return len(records) * self.forward(network, size)

    def label_maps(self, dataset: str) -> float:
        """Estimate the seconds to read all label maps of a low-shot split, from the time that the first one takes."""
        records, manifest = self.run.low_shot(dataset), self.run.manifests[dataset]
        return len(records) * _seconds(lambda: read_label(records[0], manifest))

    def forward(self, network: Network, size: tuple[int, int]) -> float:
        """Measure the seconds for a forward pass of one image of this size."""
        key = f"{network.name} {size}"
        if key not in self._seconds:
            source = network.build()
            images = torch.zeros((1, 3, *size), dtype=torch.uint8)
            self._seconds[key] = min(_seconds(lambda: source.feature_maps(images)) for _ in range(_REPEATS))
        return self._seconds[key]


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
