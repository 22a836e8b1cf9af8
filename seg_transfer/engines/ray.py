"""The stages on a Ray cluster: one task per target that is scored, per pair that is fine-tuned, per source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from seg_transfer.engines.ray_driver import Task, run_on_ray
from seg_transfer.engines.ray_training import train_together
from seg_transfer.models.devices import chosen_device
from seg_transfer.stages.finetune import finetune_pairs, missing_trials
from seg_transfer.stages.items import Trial, pair_lease, source_lease, trial_lease, wanted_trials
from seg_transfer.stages.score import missing_scores, score_pairs
from seg_transfer.stages.train import missing_sources, train_sources
from seg_transfer.store.session import place_words
from seg_transfer.study.run import Pair, Run, chosen, pair_label, shard_of, share, wanted_pairs

Item = TypeVar("Item")
Options = Mapping[str, Any]
Missing = Callable[[], list[Task]]


def run_stage_on_ray(stage: str, run: Run, options: Options) -> None:
    """Do what is missing of a stage on the cluster that RAY_ADDRESS names, or that this machine belongs to.

    Args:
        stage: The name of its command.
        run: The study.
        options: Those of the command, by the names of its parameters. ``threads`` is the CPUs that a process needs.

    Raises:
        ConfigError: There is no Ray, or no cluster, or the study lacks what the stage needs.
        IncompleteError: Items failed; the reasons were said.
    """
    # Other nodes have other working directories.
    run = replace(run, data_root=run.data_root.resolve(), folder=run.folder.resolve())
    missing = _STAGES[stage](run, options)
    run_on_ray(missing, run.folder / "leases", stage, n_cpus=options["threads"] or 1, n_processes=_processes(options))


def _target_tasks(run: Run, options: Options) -> Missing:
    """One task per target: all its sources are loaded there, and each of its images is decoded once."""
    pairs = wanted_pairs(run, options["sources"] or (), options["targets"] or ())
    by_target = [list(group) for _, group in groupby(pairs, lambda pair: pair[1])]
    how = {name: options[name] for name in ("device", "batch_size")}
    how["memory_bytes"] = int(options["memory_gb"] * 2**30)

    def left(pairs: list[Pair]) -> list[Pair]:
        return list(missing_scores(run, sources=[entry.name for entry, _ in pairs], targets=[pairs[0][1]]))

    def task(pairs: list[Pair]) -> Task:
        target = pairs[0][1]
        which = {"sources": [entry.name for entry, _ in pairs], "targets": [target]}
        leases = {pair_label(pair): pair_lease(run, pair) for pair in pairs}
        return Task(f"score-pairs {target}", _score_pairs, {"run": run, **which, **how}, leases)

    return partial(_tasks, share(by_target, shard_of(options["shard"])), left, task)


def _pair_tasks(run: Run, options: Options) -> Missing:
    """One task per pair and not per trial: the seeds of a pair share what is loaded, and write one file."""
    trials = wanted_trials(run, options["sources"] or (), options["targets"] or ())
    by_pair = [list(group) for _, group in groupby(sorted(trials, key=_target_first), _target_first)]

    def left(trials: list[Trial]) -> list[Trial]:
        missing = missing_trials(run, [trials[0].source_name], [trials[0].target])
        return [trial for trial in trials if trial in missing]

    def task(trials: list[Trial]) -> Task:
        source, target = trials[0].source_name, trials[0].target
        leases = {str(trial): trial_lease(run, trial) for trial in trials}
        title = f"finetune-pairs {source} -> {target}"
        if _processes(options) > 1:
            return Task(title, train_together, _words(run, options, title, source, target), leases)
        how = {"run": run, "sources": [source], "targets": [target], "n_workers": options["workers"]}
        return Task(title, finetune_pairs, how, leases)

    return partial(_tasks, share(by_pair, shard_of(options["shard"])), left, task)


def _target_first(trial: Trial) -> tuple[str, str]:
    return trial.target, trial.source_name


def _source_tasks(run: Run, options: Options) -> Missing:
    names = chosen([source.name for source in run.study.sources], options["sources"] or (), "source")
    by_source = [[name] for name in names if run.study.source(name).config is None]

    def left(names: list[str]) -> list[str]:
        return missing_sources(run, only=names)

    def task(names: list[str]) -> Task:
        leases = {f"source {name}": source_lease(run, name) for name in names}
        title = f"train-sources {names[0]}"
        if _processes(options) > 1:
            return Task(title, train_together, _words(run, options, title, names[0]), leases)
        how = {"run": run, "only": names, "n_workers": options["workers"]}
        return Task(title, train_sources, how, leases)

    return partial(_tasks, share(by_source, shard_of(options["shard"])), left, task)


def _processes(options: Options) -> int:
    """How many processes train together; scoring knows no such thing."""
    return int(options.get("processes", 1))


def _words(run: Run, options: Options, title: str, source: str, target: str = "") -> Options:
    """The command line of one training, for processes of its own."""
    words = [
        title.partition(" ")[0],
        *place_words(options["study"], run.data_root, run.folder),
        "--source",
        source,
        "--trust-config",
    ]
    words += ["--target", target] if target else []
    words += ["--threads", str(options["threads"] or 1), "--workers", str(options["workers"])]
    return {"words": words, "processes": _processes(options)}


_STAGES = {"train-sources": _source_tasks, "score-pairs": _target_tasks, "finetune-pairs": _pair_tasks}


def _tasks(
    groups: Sequence[list[Item]], left: Callable[[list[Item]], list[Item]], task: Callable[[list[Item]], Task]
) -> list[Task]:
    """A task for what is left of each group."""
    return [task(items) for group in groups if (items := _left(group, left))]


def _left(group: list[Item], left: Callable[[list[Item]], list[Item]]) -> list[Item]:
    """What is left of a group; an item of which that cannot be told is, and its task will say why."""
    try:
        return left(group)
    except Exception:
        if len(group) == 1:
            return group
        return [item for one in group for item in _left([one], left)]


def _score_pairs(*, device: str, **options: Any) -> None:
    """`score_pairs` on the node's own device, which the machine where the command was given need not have."""
    score_pairs(device=chosen_device(device), **options)
