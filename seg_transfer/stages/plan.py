"""What of a study is done, missing or stale, and what made it stale; runs nothing and needs no torch.

An item is stale when a stage would compute it again although there is a result of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

from seg_transfer.data.records import why_absent
from seg_transfer.errors import as_failure
from seg_transfer.stages.items import Trial, metrics_of, skipped_metrics, trained_by_study, wanted_trials, why_unseen
from seg_transfer.stages.keys import (
    NOT_NOTED,
    TrainingKeys,
    is_valid,
    low_shot_sample_key,
    observations_key,
    score_key,
    stored_sample_key,
    training_keys,
    trial_keys,
)
from seg_transfer.store.content_key import DIGEST, Key
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.results import needs_source_images
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.store.tables import PERFORMANCE, SAMPLES, SCORES, metadata_of, read_table
from seg_transfer.study.definition import SourceEntry
from seg_transfer.study.networks import weights_key
from seg_transfer.study.run import Pair, Run, StillRun, pair_label

Kind = Literal["train", "sample", "score", "fine-tune"]
State = Literal["done", "missing", "stale"]
# The name of a key's part -> what a reader calls it.
Label = Callable[[str], str]

KINDS: dict[Kind, str] = {
    "train": "train-sources",
    "sample": "sample",
    "score": "score-pairs",
    "fine-tune": "finetune-pairs",
}
"""Every kind of item with the stage that computes it."""
EARLIER_VERSION = "settings or data (written by an earlier version)"
_SAME_PARTS = "its content key, although all its parts are the same (written by another version, or damaged)"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One piece of a study's work.

    Attributes:
        kind: What is done.
        name: How messages call it.
        source, target: What it is of; "" where it has none.
        state: "stale" when there is a result that a stage would replace.
        reasons: What made it stale, such as "schedule.steps: 700 -> 800"; or which scores are missing.
        seconds: What it took; None where that was not measured, as for samples, which take no GPU.
        arithmetic: Of a training that is done: what it computed in; "" for other items, and where it was not noted.
    """

    kind: Kind
    name: str
    source: str
    target: str
    state: State
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    arithmetic: str = ""


def absent_datasets(run: Run) -> dict[str, str]:
    """What of each dataset of the study is missing below the data root, and how to get it; none that looks complete."""
    reasons = {name: why_absent(manifest, run.data_root) for name, manifest in sorted(run.manifests.items())}
    return {name: reason for name, reason in reasons.items() if reason}


def plan_items(run: StillRun) -> list[PlanItem]:
    """All items of a study, kind by kind in the order in which they are done."""
    trials = wanted_trials(run) if run.study.fine_tuning else []
    return [
        *(_planned(_training, run, entry) for entry in trained_by_study(run)),
        *(_planned(_sample, run, target) for target in run.study.targets),
        *(_planned(_scores, run, pair) for pair in run.pairs),
        *(_planned(_fine_tuning, run, trial) for trial in trials),
    ]


def _planned(look: Callable[[StillRun, Any, partial[PlanItem]], PlanItem], run: StillRun, what: Any) -> PlanItem:
    """The item, stale for the reason of the error where its result, or what decides it, cannot be read."""
    item = _named(what, look)
    try:
        return look(run, what, item)
    except Exception as error:  # one item that cannot be looked at stops no other
        return item(state="stale", reasons=(" ".join(str(as_failure(error)).split()),))


def _named(what: SourceEntry | str | Pair | Trial, look: object) -> partial[PlanItem]:
    match what:
        case SourceEntry():
            return partial(PlanItem, "train", f"source {what.name}", what.name, "")
        case Trial():
            return partial(PlanItem, "fine-tune", str(what), what.source_name, what.target)
        case str():
            return partial(PlanItem, "sample", f"sample of {what}", "", what)
        case source, target:
            return partial(PlanItem, "score", pair_label((source, target)), source.name, target)


def _training(run: StillRun, entry: SourceEntry, item: partial[PlanItem]) -> PlanItem:
    file = run.source_folder(entry.name) / FILE_NAME
    if not file.exists():
        return item(state="missing")
    card = read_source_card(file)
    if not card.weights_file(file.parent).exists():
        return item(state="missing", reasons=("its weights",))
    keys = training_keys(run, entry)
    if is_valid(card.content_key, keys):
        return item(state="done", seconds=card.seconds, arithmetic=card.key_parts.get("arithmetic", ""))
    records = {"train": f"records of {entry.dataset} source_train", "eval": f"records of {entry.dataset} eval"}
    changed = _changes(card.key_parts, _nearest(keys, card.key_parts), lambda name: records.get(name, name))
    return item(state="stale", reasons=changed, seconds=card.seconds)


def _sample(run: StillRun, target: str, item: partial[PlanItem]) -> PlanItem:
    file = run.sample_file(target)
    if not file.exists():
        return item(state="missing")
    stored = read_table(file, SAMPLES)
    key = stored_sample_key(low_shot_sample_key(run, target), metadata_of(stored, "images"))
    if metadata_of(stored, "content_key") == key:
        return item(state="done")
    was = parts_in(metadata_of(stored, KEY_PARTS)).get(target, {})
    return item(state="stale", reasons=_changes(was, key, partial(_sample_label, target)))


def _scores(run: StillRun, pair: Pair, item: partial[PlanItem]) -> PlanItem:
    entry, file = pair[0], run.scores_file(pair[0].name, pair[1])
    if not file.exists():
        return item(state="missing")
    stored = read_table(file, SCORES)
    rows = {row["metric"]: row for row in stored.select(["metric", "content_key", "seconds"]).to_pylist()}
    seconds = max((row["seconds"] for row in rows.values()), default=None)
    unseen = bool(skipped_metrics(run)) and run.once(f"{entry.dataset} unseen", lambda: why_unseen(run, entry)) != ""
    wanted = metrics_of(run, entry, unseen=unseen)
    keys = _score_keys(run, pair, [name for name in wanted if name in rows])
    was = parts_in(metadata_of(stored, KEY_PARTS))
    changed = [
        _changes(was.get(name, {}), key, partial(_score_label, pair, name))
        for name, key in keys.items()
        if rows[name]["content_key"] != key
    ]
    lacking = tuple(f"no score of {name}" for name in wanted if name not in rows)
    if changed:
        return item(state="stale", reasons=tuple(dict.fromkeys(chain(*changed, lacking))), seconds=seconds)
    return item(state="missing" if lacking else "done", reasons=lacking, seconds=seconds)


def _score_keys(run: StillRun, pair: Pair, metrics: Sequence[str]) -> dict[str, Key]:
    if not metrics:
        return {}
    entry, target = pair
    observations = observations_key(run, entry, weights_key(run, entry), low_shot_sample_key(run, target))
    return {
        name: score_key(
            observations, name, low_shot_sample_key(run, entry.dataset) if needs_source_images(name) else None
        )
        for name in metrics
    }


def _fine_tuning(run: StillRun, trial: Trial, item: partial[PlanItem]) -> PlanItem:
    file = run.performance_file(trial.source_name, trial.target)
    if not file.exists():
        return item(state="missing")
    stored = read_table(file, PERFORMANCE)
    of_seed = {row["seed"]: row for row in stored.select(["seed", "content_key", "seconds"]).to_pylist()}
    row = of_seed.get(trial.seed)
    if row is None:
        return item(state="missing")
    keys, was = trial_keys(run, trial), parts_in(metadata_of(stored, KEY_PARTS)).get(str(trial.seed), {})
    if is_valid(row["content_key"], keys):
        return item(state="done", seconds=row["seconds"], arithmetic=was.get("arithmetic", ""))
    changed = _changes(was, _nearest(keys, was), partial(_trial_label, trial))
    return item(state="stale", reasons=changed, seconds=row["seconds"])


def _nearest(keys: TrainingKeys, was: Mapping[str, str]) -> Key:
    """The key of the arithmetic that a stored training was done in, or of that which is always allowed."""
    return keys.get(was.get("arithmetic", NOT_NOTED), keys["float32"])[1]


def _changes(was: Mapping[str, str], key: Key, label: Label) -> tuple[str, ...]:
    """What is different between the stored parts of a key and its present ones."""
    if not was:
        return (EARLIER_VERSION,)
    names = [name for name in {**key.parts, **was} if was.get(name) != key.parts.get(name)]
    told = (_told(label(name), was.get(name, NOT_NOTED), key.parts.get(name, "absent")) for name in names)
    return tuple(dict.fromkeys(told)) or (_SAME_PARTS,)


def _told(label: str, was: str, now: str) -> str:
    return label if DIGEST in was or DIGEST in now else f"{label}: {was} -> {now}"


def _sample_label(target: str, name: str) -> str:
    return f"records of {target} train" if name == "records" else name


def _score_label(pair: Pair, metric: str, name: str) -> str:
    (entry, target), plain = pair, name.removeprefix("observations.")
    if plain.startswith("source."):
        return f"{plain.removeprefix('source.')} of source {entry.name}"
    if plain.startswith("sample."):
        return _sample_label(target, plain.removeprefix("sample."))
    if plain.startswith("source_images.0."):
        own = _sample_label(entry.dataset, plain.removeprefix("source_images.0."))
        return own if own.startswith("records") else f"{own} of {entry.dataset}"
    if plain.startswith("libraries."):
        return plain.removeprefix("libraries.")
    if plain == "version":
        return f"version of metric {metric}"
    if plain.startswith("settings"):
        return f"metric settings of {metric}{plain.removeprefix('settings')}"
    return {"source_images.1": "pixels of a source's own images", "float16": "keep_features"}.get(plain, plain)


def _trial_label(trial: Trial, name: str) -> str:
    if name == "start.weights" and trial.source is None:
        return "initialisation"
    if name.startswith("start."):
        plain = name.removeprefix("start.")
        return f"{plain} of source {trial.source_name}" if trial.source else plain
    records = {"train": f"records of {trial.target} train", "eval": f"records of {trial.target} eval"}
    return records.get(name, name)
