"""What the missing items of a study will cost, before they are computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch

from seg_transfer.data.images import read_size, short_side_size
from seg_transfer.data.records import Record
from seg_transfer.models.configs import ModelConfig
from seg_transfer.models.load import load_source
from seg_transfer.models.networks import build_network, placed
from seg_transfer.models.source_model import SourceModel, as_source_model
from seg_transfer.stages.finetune import missing_trials
from seg_transfer.stages.items import Trial
from seg_transfer.stages.score import missing_scores
from seg_transfer.stages.train import missing_sources
from seg_transfer.store.results import needs_source_images
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.store.tables import PERFORMANCE, SCORES, read_rows
from seg_transfer.study.definition import SourceEntry, schedule_of
from seg_transfer.study.networks import source_network, source_spec, target_network
from seg_transfer.study.run import Pair, Run, fine_tuning_of, pair_label, training_of
from seg_transfer.training.schedule import Schedule

# A training step computes the forward pass and, at twice its cost, the gradients.
_STEP_PER_FORWARD = 3
_PROBES = 3


@dataclass(frozen=True, slots=True)
class Missing:
    """An item that a stage would compute.

    Attributes:
        item: Its name.
        seconds: What it is expected to take on this machine.
        basis: "finished items" when that is their mean; "a timed forward pass" when none is finished yet.
    """

    item: str
    seconds: float
    basis: str


def missing_source_costs(run: Run, device: str, sources: Sequence[str] = ()) -> list[Missing]:
    """The sources that `train_sources` would train."""
    finished = [read_source_card(file).seconds for file in (run.folder / "sources").glob(f"*/{FILE_NAME}")]
    probe = _Probe()

    def guess(name: str) -> float:
        dataset = run.study.source(name).dataset
        network = _of_config(target_network(run, dataset), device)
        return probe.training(run, network, dataset, schedule_of(training_of(run)))

    return [_cost(f"source {name}", finished, partial(guess, name)) for name in missing_sources(run, only=sources)]


def missing_score_costs(
    run: Run, device: str, sources: Sequence[str] = (), targets: Sequence[str] = ()
) -> list[Missing]:
    """The pairs that `score_pairs` would score, with the metrics each lacks."""
    rows = [read_rows(file, SCORES) for file in (run.folder / "scores").glob("*/*.parquet")]
    finished = [max(row["seconds"] for row in of_pair) for of_pair in rows if of_pair]
    probe, seen = _Probe(), set[str]()

    def guess(pair: Pair, metrics: Sequence[str]) -> float:
        entry, datasets = pair[0], [pair[1]]
        if entry.name not in seen and any(map(needs_source_images, metrics)):
            # The source's own images are seen once, with its first pair.
            seen.add(entry.name)
            datasets.append(entry.dataset)
        network = _of_source(run, entry, device)
        return sum(probe.images(run, network, dataset, run.low_shot(dataset)) for dataset in datasets)

    missing = missing_scores(run, sources=sources, targets=targets)
    return [
        _cost(f"{pair_label(pair)}: {', '.join(metrics)}", finished, partial(guess, pair, metrics))
        for pair, metrics in missing.items()
    ]


def missing_trial_costs(
    run: Run, device: str, sources: Sequence[str] = (), targets: Sequence[str] = ()
) -> list[Missing]:
    """The fine-tunings that `finetune_pairs` would run."""
    files = (run.folder / "performance").glob("*/*.parquet")
    finished = [row["seconds"] for file in files for row in read_rows(file, PERFORMANCE)]
    probe = _Probe()

    def guess(trial: Trial) -> float:
        model = source_network(run, trial.source) if trial.source else target_network(run, trial.target)
        assert model is not None
        return probe.training(run, _of_config(model, device), trial.target, schedule_of(fine_tuning_of(run)))

    def cost(trial: Trial) -> Missing:
        if trial.source and source_network(run, trial.source) is None:
            return Missing(str(trial), 0.0, "nothing: such a source cannot be fine-tuned")
        return _cost(str(trial), finished, partial(guess, trial))

    return list(map(cost, missing_trials(run, sources, targets)))


def _cost(item: str, finished: Sequence[float], guess: Callable[[], float]) -> Missing:
    if finished:
        return Missing(item, fmean(finished), "finished items")
    return Missing(item, guess(), "a timed forward pass")


@dataclass(frozen=True)
class _Network:
    """A network that can be timed: equal names mean equal times."""

    name: str
    make: Callable[[], SourceModel]


def _of_config(model: ModelConfig, device: str) -> _Network:
    """A network of mmsegmentation, with random weights."""

    def make() -> SourceModel:
        return as_source_model(placed(build_network(model, seed=0), device), model)

    return _Network(str(model["backbone"]), make)


def _of_source(run: Run, entry: SourceEntry, device: str) -> _Network:
    """A source's network: with random weights where it may not be trained yet, as it is where it was brought along."""
    model = source_network(run, entry)
    if model is not None:
        return _of_config(model, device)
    return _Network(f"source {entry.name}", lambda: load_source(source_spec(run, entry), device=device))


class _Probe:
    """Times forward passes, each network and image size once."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def training(self, run: Run, network: _Network, dataset: str, schedule: Schedule) -> float:
        """Seconds for a whole schedule and the evaluation after it."""
        crop = schedule.crop_size or run.manifests[dataset].crop_size
        steps = _STEP_PER_FORWARD * schedule.steps * schedule.batch_size * self._forward(network, crop)
        return steps + self.images(run, network, dataset, run.records(dataset, "eval"))

    def images(self, run: Run, network: _Network, dataset: str, records: Sequence[Record]) -> float:
        """Seconds for one forward pass over images, all taken to be of the first one's size."""
        size = short_side_size(*read_size(records[0].image), min(run.manifests[dataset].crop_size))
        return len(records) * self._forward(network, size)

    def _forward(self, network: _Network, size: tuple[int, int]) -> float:
        key = f"{network.name} {size}"
        if key not in self._known:
            source = network.make()
            images = torch.zeros((1, 3, *size), dtype=torch.uint8)
            self._known[key] = min(_seconds(lambda: source.feature_maps(images)) for _ in range(_PROBES))
        return self._known[key]


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
