"""Fine-tuning the sources of a study on its targets: the actual performance that rankings are judged by."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from seg_transfer.engines.claims import Held, for_each_claimed
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.checkpoints import load_checkpoint
from seg_transfer.models.configs import ModelConfig, resolve, with_classes, with_normalisation
from seg_transfer.models.networks import build_network, load_weights_except_classifiers
from seg_transfer.models.source_model import as_source_model
from seg_transfer.progress import progress_of
from seg_transfer.stages.items import Trial, trial_lease, wanted_trials
from seg_transfer.stages.keys import TrainingKeys, is_valid, start_key, trial_keys
from seg_transfer.stages.train import common_initialisation, keep_network
from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.store.key_parts import KEY_PARTS, parts_entry, parts_in
from seg_transfer.store.lease import awaited
from seg_transfer.store.tables import PERFORMANCE, provenance, read_metadata, read_rows, write_rows
from seg_transfer.study.definition import schedule_of
from seg_transfer.study.networks import target_network, tunable_source
from seg_transfer.study.run import WHOLE, Run, Say, Shard, fine_tuning_of, share
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.evaluate import evaluate_on
from seg_transfer.training.fit import arithmetic_here, fit
from seg_transfer.training.iou import SegmentationQuality
from seg_transfer.training.processes import is_main_process


def finetune_pairs(
    run: Run,
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    shard: Shard = WHOLE,
    n_workers: int = 0,
    say: Say = print,
) -> None:
    """Fine-tune every pair, and scratch on every target, that has no valid performance yet; a killed one resumes.

    A shard is every n-th fine-tuning.

    Raises:
        ConfigError: The study says nothing about fine-tuning.
        IncompleteError: Some trials failed; the reasons were said.
    """
    trials = share(wanted_trials(run, sources, targets), shard)
    for_each_claimed(
        trials,
        lambda trial, held: _finetune(run, trial, held, n_workers, say),
        str,
        lambda trial: trial_lease(run, trial),
    )


def missing_trials(run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Trial]:
    """The fine-tunings of these sources and targets that have no valid performance yet, or no trained source."""

    def is_missing(trial: Trial) -> bool:
        try:
            return not _is_finished(run, trial, trial_keys(run, trial))
        except CheckpointError:
            return True

    return list(filter(is_missing, wanted_trials(run, sources, targets)))


def _finetune(run: Run, trial: Trial, held: Held, n_workers: int, say: Say) -> None:
    keys, folder = trial_keys(run, trial), run.folder / "fine_tuning" / trial.source_name / trial.target
    # Without the eval split: when that must be mended, the training is not lost.
    work_dirs = {name: folder / f"seed_{trial.seed}_{weights[:12]}" for name, (weights, _) in keys.items()}
    if _is_finished(run, trial, keys):
        _clear(work_dirs.values())
        return
    began = time.monotonic()
    manifest, records = run.manifests[trial.target], run.low_shot(trial.target)
    schedule, model = schedule_of(fine_tuning_of(run)), _model(run, trial)
    arithmetic = arithmetic_here(schedule)
    key = keys[arithmetic][1]
    network, initialisation = _initialised(run, trial, model)
    crops = TrainingCrops(records, manifest, schedule, trial.seed)
    with progress_of(f"fine-tune {trial}") as tick:
        fit(network, crops, work_dirs[arithmetic], n_workers=n_workers, progress=tick)
    found = evaluate_on(as_source_model(network, model), run.records(trial.target, "eval"), manifest)
    if not (is_main_process() and held()):
        return
    seconds = time.monotonic() - began
    if fine_tuning_of(run).keep_weights:  # before the performance, which says that this fine-tuning is finished
        keep_network(
            run.fine_tuned_folder(trial.source_name, trial.target, trial.seed),
            network,
            crops,
            found,
            source=trial.source_name,
            config=_config_name(run, trial),
            model=model,
            initialisation=initialisation,
            seconds=seconds,
            key=key,
        )
    numbers = {"n_train_images": len(records), "steps": schedule.steps, **provenance(seconds, key)}
    _store(run, trial, found, numbers)
    _clear(work_dirs.values())
    absent = ", ".join(manifest.classes[index] for index in found.absent)
    say(f"{trial}: mIoU {found.miou:.4f} ({seconds:.0f} s{f'; absent: {absent}' if absent else ''})")


def _clear(work_dirs: Iterable[Path]) -> None:
    """Remove the checkpoints of a fine-tuning that is stored, and the empty folders above them."""
    for work_dir in work_dirs:
        shutil.rmtree(work_dir, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.removedirs(work_dir.parent)


def _is_finished(run: Run, trial: Trial, keys: TrainingKeys) -> bool:
    return any(is_valid(row["content_key"], keys) for row in _rows(run, trial))


def _model(run: Run, trial: Trial) -> ModelConfig:
    """The source's own network with a classifier for the target's classes; the study's network for scratch."""
    if trial.source is None:
        return target_network(run, trial.target)
    manifest = run.manifests[trial.target]
    source = tunable_source(run, trial.source)
    model, _ = resolve(source.config, source.checkpoint, memo=run.memo)
    fitted = with_classes(model, len(manifest.classes))
    return fitted if run.study.normalisation == "model" else with_normalisation(fitted, manifest.mean, manifest.std)


def _config_name(run: Run, trial: Trial) -> str:
    config = run.study.model if trial.source is None or trial.source.config is None else trial.source.config
    return config.name if config else ""


def _initialised(run: Run, trial: Trial, model: ModelConfig) -> tuple[nn.Module, str]:
    """The network that fine-tuning starts from, and what it was initialised with, as a card has it."""
    network = build_network(model, seed=trial.seed)
    if trial.source is None:
        return network, common_initialisation(run, network)
    source = tunable_source(run, trial.source)
    _, weights = resolve(source.config, source.checkpoint, memo=run.memo)
    if weights is None:
        raise ConfigError(f"source {trial.source.name}: field checkpoint is missing; name the weights to fine-tune")
    load_weights_except_classifiers(network, load_checkpoint(weights), str(weights))
    return network, sha256_of_file(weights, run.memo)


def _rows(run: Run, trial: Trial) -> list[dict[str, Any]]:
    return read_rows(run.performance_file(trial.source_name, trial.target), PERFORMANCE)


def _store(run: Run, trial: Trial, found: SegmentationQuality, numbers: dict[str, Any]) -> None:
    row = {
        "source": trial.source_name,
        "target": trial.target,
        "miou": found.miou,
        "class_iou": list(found.class_iou),
        "n_eval_images": found.n_images,
        "seed": trial.seed,
        **numbers,
    }
    file = run.performance_file(trial.source_name, trial.target)
    origin = run.origin("performance", trial.target, start_key(run, trial))
    # Another seed of the pair may end at the same moment.
    with awaited(run.lease("performance", trial.source_name, trial.target, "file")):
        stored = read_metadata(file, PERFORMANCE, [*origin, KEY_PARTS])
        # Seeds of one mean must not come from different settings or weights.
        others = _rows(run, trial) if origin.items() <= stored.items() else []
        rows = [row, *(other for other in others if other["seed"] != trial.seed)]
        parts = parts_in(stored[KEY_PARTS]) | {str(trial.seed): row["content_key"].parts}
        entry = parts_entry({str(one["seed"]): parts.get(str(one["seed"]), {}) for one in rows})
        write_rows(file, PERFORMANCE, sorted(rows, key=lambda one: int(one["seed"])), origin | entry)
