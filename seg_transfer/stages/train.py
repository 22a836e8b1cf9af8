"""The stage that trains sources, with one item per source that the study trains itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seg_transfer.models.entry import SourceEntry
from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import read_card_or_problem
from seg_transfer.stages.training_keys import TrainingKeys, is_current, keys_by_arithmetic, nearest_key
from seg_transfer.store.content_key import manifest_key
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.study.networks import initialization_key, own_entry, schedule_for, target_network
from seg_transfer.study.run import CachedRun, Run, select_names, training_of

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe


@dataclass(frozen=True)
class TrainSettings:
    """How networks are trained; ``workers`` is the number of extra processes that read training images."""

    workers: int = 0


class TrainStage(Stage):
    """Writes the weights and the ``source.json`` of every source below ``sources/``."""

    name = "train"
    shard_noun = "source"
    selected_by = ("sources",)
    settings_type = TrainSettings
    trains = True

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return the selected sources that the study trains."""
        names = select_names([source.name for source in run.study.sources], sources, "source")
        return [Item(name) for name in names if run.study.source(name).kind == "study"]

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return f"source {item.source}"

    def status(self, run: CachedRun, item: Item) -> Status:
        """Check whether card and weights exist and match the study's current settings."""
        file = run.source_folder(item.source) / FILE_NAME
        if not file.exists():
            return Status("missing")
        card = read_source_card(file)
        if not card.weights_file(file.parent).exists():
            return Status("missing", reasons=("its weights",))
        entry = run.study.source(item.source)
        keys = training_keys(run, entry)
        if is_current(card, keys):
            return Status("done", seconds=card.seconds, arithmetic=card.key_parts.get("arithmetic", ""))
        records = {"train": f"records of {entry.dataset} source_train", "eval": f"records of {entry.dataset} eval"}
        reasons = changes(card.key_parts, nearest_key(keys, card.key_parts), lambda name: records.get(name, name))
        return Status("stale", reasons, seconds=card.seconds)

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of the cards and weights of all sources in the folder."""
        for file in sorted((run.folder / "sources").glob(f"*/{FILE_NAME}")):
            yield from _problems(file)

    def finished_seconds(self, run: Run) -> list[float]:
        """Return how long each finished training took, in seconds."""
        return [read_source_card(file).seconds for file in (run.folder / "sources").glob(f"*/{FILE_NAME}")]

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate the steps of the schedule and the evaluation that follows."""
        dataset = run.study.source(item.source).dataset
        schedule = schedule_for(run, own_entry(run), training_of(run))
        return probe.training(probe.own_network(dataset), dataset, schedule)

    def start(self, run: Run, items: Sequence[Item], settings: TrainSettings) -> Work:
        """Prepare to train the missing sources."""
        from seg_transfer.stages.training import train_source

        def train(item: Item, is_held: IsHeld) -> None:
            entry = run.study.source(item.source)
            train_source(run, entry, training_keys(run, entry), is_held, settings.workers)

        return train


def training_keys(run: Run, entry: SourceEntry) -> TrainingKeys:
    """Return the keys of a source's training, one for each arithmetic that its schedule allows."""
    training = training_of(run)
    parts: dict[str, object] = {
        "model": target_network(run, entry.dataset),
        "seed": training.seed,
        "initialisation": initialization_key(run),
        "manifest": manifest_key(run.manifests[entry.dataset]),
        "train": run.records_key(entry.dataset, run.records(entry.dataset, "source_train")),
    }
    eval_key = run.records_key(entry.dataset, run.records(entry.dataset, "eval"))
    return keys_by_arithmetic(schedule_for(run, own_entry(run), training), parts, eval_key)


def _problems(file: Path) -> Iterator[str]:
    card = read_card_or_problem(file)
    if isinstance(card, str):
        yield card
        return
    if card.source != file.parent.name:
        yield f"{file}: field source is {card.source!r}, but the folder is {file.parent.name!r}; train the source again"
    if not 0 <= card.miou <= 1:
        yield f"{file}: field miou is {card.miou}; it must be a fraction in [0, 1]; train the source again"


STAGE = TrainStage()
