"""The stage that fine-tunes: one item per pair, or scratch and target, and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from seg_transfer.data.manifest import SCRATCH
from seg_transfer.stages.base import Held, Item, Stage, Status, Work, seed_label
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import card_or_problem, duplicates, pair_problems
from seg_transfer.stages.train import TrainSettings
from seg_transfer.stages.training_keys import TrainingKeys, is_valid, keys_by_arithmetic, nearest_key
from seg_transfer.store.content_key import Key, content_key, manifest_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.source_card import FILE_NAME
from seg_transfer.store.tables import PERFORMANCE, metadata_of, read_rows, read_table
from seg_transfer.study.definition import schedule_of
from seg_transfer.study.networks import initialization_key, source_network, target_network, weights_key
from seg_transfer.study.run import CachedRun, Run, fine_tuning_of, select_names

if TYPE_CHECKING:
    from seg_transfer.models.configs import ModelConfig
    from seg_transfer.stages.probe import Probe


class FinetuneStage(Stage):
    """``performance/<source>/<target>.parquet``, a row per seed, and ``fine_tuned/`` where the study keeps weights."""

    name = "finetune"
    shard_noun = "fine-tuning"
    settings_type = TrainSettings
    trains = True
    is_compared = True

    def is_wanted(self, run: Run) -> bool:
        """Studies without fine-tuning ask for scores only."""
        return run.study.fine_tuning is not None

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """All fine-tunings of these sources (``scratch`` among them) and targets.

        Seed by seed: a study that is stopped early has every pair once before it has any pair twice.
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
        """How messages name it."""
        return seed_label(item)

    def status(self, run: CachedRun, item: Item) -> Status:
        """Whether the row of its seed is one that the study's settings would give again."""
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
        """Of all rows and kept weights in the folder."""
        yield from pair_problems(run, "performance", PERFORMANCE, _row_problems)
        for file in sorted((run.folder / "fine_tuned").glob(f"*/*/*/{FILE_NAME}")):
            card = card_or_problem(file)
            if isinstance(card, str):
                yield f"{card} (weights of a fine-tuning: delete {file.parent})"
                continue
            source, target, seed = file.parts[-4:-1]
            if (card.source, card.dataset, str(card.seed)) != (source, target, seed):
                found = f"{card.source} -> {card.dataset}, seed {card.seed}"
                yield f"{file}: is of {found}, by its folder of {source} -> {target}, seed {seed}; delete {file.parent}"

    def finished_seconds(self, run: Run) -> list[float]:
        """What finished fine-tunings took."""
        files = (run.folder / "performance").glob("*/*.parquet")
        return [row["seconds"] for file in files for row in read_rows(file, PERFORMANCE)]

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """The steps of the schedule and the evaluation after them."""
        model = _network(run, item)
        assert model is not None
        return probe.training(probe.network(model), item.target, schedule_of(fine_tuning_of(run)))

    def why_impossible(self, run: Run, item: Item) -> str:
        """Some kinds of sources are scored only."""
        return "such a source cannot be fine-tuned" if _network(run, item) is None else ""

    def start(self, run: Run, items: Sequence[Item], settings: TrainSettings) -> Work:
        """Fine-tune what is missing; an interrupted fine-tuning resumes."""
        from seg_transfer.stages.finetuning import finetune

        def tune(item: Item, held: Held) -> None:
            finetune(run, item, start_key(run, item), fine_tuning_keys(run, item), held, settings.workers)

        return tune


def fine_tuning_keys(run: Run, item: Item) -> TrainingKeys:
    """Keys of a fine-tuning, one for each arithmetic that its schedule allows."""
    target, tuning = item.target, fine_tuning_of(run)
    parts: dict[str, object] = {
        "start": start_key(run, item),
        "normalisation": run.study.normalisation,
        "seed": item.seed,
        "manifest": run.cached(f"manifest of {target}", lambda: manifest_key(run.manifests[target])),
        "train": run.cached(f"train of {target}", lambda: run.records_key(target, run.low_shot(target))),
    }
    eval_key = run.cached(f"eval of {target}", lambda: run.records_key(target, run.records(target, "eval")))
    schedule = run.cached("fine-tuning schedule", lambda: schedule_of(tuning))
    return keys_by_arithmetic(schedule, parts, eval_key)


def start_key(run: Run, item: Item) -> Key:
    """Key of the weights that a fine-tuning starts from."""
    if item.source != SCRATCH:
        return weights_key(run, run.study.source(item.source))
    return content_key(model=target_network(run, item.target), weights=initialization_key(run))


def _network(run: Run, item: Item) -> ModelConfig | None:
    if item.source == SCRATCH:
        return target_network(run, item.target)
    return source_network(run, run.study.source(item.source))


def _part_name(item: Item, name: str) -> str:
    """What a reader calls a part of a fine-tuning's key."""
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
        for value in (row["miou"], *(one for one in row["class_iou"] or () if one is not None)):
            if value is None or not 0 <= value <= 1:
                yield f"seed {row['seed']} has mIoU or a class's IoU {value}, a fraction in [0, 1] is expected"


STAGE = FinetuneStage()
