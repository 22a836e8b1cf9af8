"""The stage that fine-tunes, with one item per seed and pair; scratch counts as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.models.entry import SourceEntry
from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work, seed_label
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import duplicates, pair_problems, read_card_or_problem
from seg_transfer.stages.train import TrainSettings
from seg_transfer.stages.training_keys import TrainingKeys, is_valid, keys_by_arithmetic, nearest_key
from seg_transfer.store.content_key import Key, content_key, manifest_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.source_card import FILE_NAME
from seg_transfer.store.tables import PERFORMANCE, metadata_of, read_rows, read_table
from seg_transfer.study.networks import (
    initialization_key,
    own_entry,
    schedule_for,
    source_start_key,
    target_network,
    weights_key,
)
from seg_transfer.study.run import CachedRun, Run, fine_tuning_of, select_names
from seg_transfer.training.schedule import Schedule

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe


class FinetuneStage(Stage):
    """Writes ``performance/<source>/<target>.parquet``, one row per seed, and ``fine_tuned/`` if weights are kept."""

    name = "finetune"
    shard_noun = "fine-tuning"
    settings_type = TrainSettings
    trains = True
    is_compared = True

    def is_wanted(self, run: Run) -> bool:
        """Whether the study has a field ``fine_tuning``; without it, pairs are only scored."""
        return run.study.fine_tuning is not None

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return all fine-tunings of these sources, which may include ``scratch``, and targets.

        They are ordered by seed, so that every pair is fine-tuned once before any pair is fine-tuned twice.
        """
        controls = [SCRATCH] if fine_tuning_of(run).scratch else []
        datasets = {**dict.fromkeys(controls, ""), **{source.name: source.dataset for source in run.study.sources}}
        names = select_names(datasets, sources, "source")
        return [
            Item(name, target, seed)
            for seed in fine_tuning_of(run).seeds
            for target in select_names(run.study.targets, targets, "target")
            for name in names
            if datasets[name] != target
        ]

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return seed_label(item)

    def status(self, run: CachedRun, item: Item) -> Status:
        """Check whether the row of the item's seed matches the study's current settings."""
        file = run.performance_file(item.source, item.target)
        if not file.exists():
            return Status("missing")
        stored = read_table(file, PERFORMANCE)
        by_seed = {row["seed"]: row for row in stored.select(["seed", "content_key", "seconds"]).to_pylist()}
        row = by_seed.get(item.seed)
        if row is None:
            return Status("missing")
        keys, parts = fine_tuning_keys(run, item), parts_in(metadata_of(stored, KEY_PARTS)).get(str(item.seed), {})
        if is_valid(row["content_key"], keys):
            return Status("done", seconds=row["seconds"], arithmetic=parts.get("arithmetic", ""))
        reasons = changes(parts, nearest_key(keys, parts), partial(_part_name, item))
        return Status("stale", reasons, seconds=row["seconds"])

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all rows and kept weights in the folder."""
        yield from pair_problems(run, "performance", PERFORMANCE, _row_problems)
        for file in sorted((run.folder / "fine_tuned").glob(f"*/*/*/{FILE_NAME}")):
            card = read_card_or_problem(file)
            if isinstance(card, str):
                yield f"{card} (weights of a fine-tuning: delete {file.parent})"
                continue
            source, target, seed = file.parts[-4:-1]
            if (card.source, card.dataset, str(card.seed)) != (source, target, seed):
                stated = f"{card.source} -> {card.dataset}, seed {card.seed}"
                folder = f"{source} -> {target}, seed {seed}"
                yield f"{file}: belongs to {stated}, but its folder to {folder}; delete {file.parent}"

    def finished_seconds(self, run: Run) -> list[float]:
        """Return how long each finished fine-tuning took, in seconds."""
        files = (run.folder / "performance").glob("*/*.parquet")
        return [row["seconds"] for file in files for row in read_rows(file, PERFORMANCE)]

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate the steps of the schedule and the evaluation that follows."""
        from_scratch = item.source == SCRATCH
        network = probe.own_network(item.target) if from_scratch else probe.source(run.study.source(item.source))
        return probe.training(network, item.target, tuning_schedule(run, item))

    def start(self, run: Run, items: Sequence[Item], settings: TrainSettings) -> Work:
        """Prepare to do the missing fine-tunings; an interrupted fine-tuning resumes."""
        from seg_transfer.stages.finetuning import finetune

        def tune(item: Item, is_held: IsHeld) -> None:
            # As for scores, which source's features are read decides nothing about its weights.
            origin = start_key(run, item) if item.source == SCRATCH else weights_key(run, run.study.source(item.source))
            keys, schedule = fine_tuning_keys(run, item), tuning_schedule(run, item)
            finetune(run, item, origin, schedule, keys, is_held, settings.workers)

        return tune


def fine_tuning_keys(run: Run, item: Item) -> TrainingKeys:
    """Return the keys of a fine-tuning, one for each arithmetic that its schedule allows."""
    target = item.target
    train = run.cached(f"train of {target}", lambda: run.records_key(target, run.low_shot(target)))
    eval_key = run.cached(f"eval of {target}", lambda: run.records_key(target, run.records(target, "eval")))
    return tuning_keys(run, item, train, eval_key)


def tuning_keys(run: Run, item: Item, train: Key, judged: Key) -> TrainingKeys:
    """Return the keys of a fine-tuning of an item on some images.

    Args:
        run: The study.
        item: A source, or ``scratch``, a target and a seed.
        train: Key of the images that it is fine-tuned on.
        judged: Key of what its mIoU comes from.
    """
    parts: dict[str, object] = {
        "start": start_key(run, item),
        "normalisation": run.study.normalisation,
        "seed": item.seed,
        "manifest": run.cached(f"manifest of {item.target}", lambda: manifest_key(run.manifests[item.target])),
        "train": train,
    }
    return keys_by_arithmetic(tuning_schedule(run, item), parts, judged)


def tuning_schedule(run: Run, item: Item) -> Schedule:
    """Return the schedule of a fine-tuning, with the learning rate of its source if that has its own."""
    entry: SourceEntry | None = own_entry(run) if item.source == SCRATCH else run.study.source(item.source)
    return schedule_for(run, entry, fine_tuning_of(run))


def start_key(run: Run, item: Item) -> Key:
    """Return the key of the network and the weights that a fine-tuning starts from."""
    if item.source != SCRATCH:
        return source_start_key(run, run.study.source(item.source))
    return content_key(model=target_network(run, item.target), weights=initialization_key(run))


def _part_name(item: Item, name: str) -> str:
    """Return the name of a part of a fine-tuning's key for readers."""
    from_scratch = item.source == SCRATCH
    if name == "start.weights" and from_scratch:
        return "initialization"
    if name.startswith("start."):
        plain = name.removeprefix("start.")
        return plain if from_scratch else f"{plain} of source {item.source}"
    records = {"train": f"records of {item.target} train", "eval": f"records of {item.target} eval"}
    return records.get(name, name)


def _row_problems(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from duplicates("seed", rows)
    for row in rows:
        for value in (row["miou"], *(iou for iou in row["class_iou"] or () if iou is not None)):
            if value is None or not 0 <= value <= 1:
                yield f"seed {row['seed']} has the mIoU or class IoU {value}; it must be a fraction in [0, 1]"


STAGE = FinetuneStage()
