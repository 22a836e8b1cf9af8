"""What decides each result of a study: its networks as plain data and the content keys of its items, without torch.

The stages and the plan ask here, and nowhere else, whether a stored result is still valid. ``store/README.md`` says of
every key what it holds, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seg_transfer.data.records import Record
from seg_transfer.metrics import METRICS
from seg_transfer.models.libraries import library_versions
from seg_transfer.stages.items import Trial
from seg_transfer.store.content_key import Key, content_key, manifest_key, sha256_of_file
from seg_transfer.store.results import needs_source_images
from seg_transfer.store.tables import SCORES_LAYOUT
from seg_transfer.study.definition import SourceEntry, schedule_of
from seg_transfer.study.networks import init_checkpoint_of, target_network, weights_key
from seg_transfer.study.run import Run, fine_tuning_of, training_of
from seg_transfer.training.schedule import Schedule

# The metrics that look at a source's own images thin them further or use class means; those of all sources stay in
# memory at once, 15 MB each with 720 channels.
SOURCE_OBSERVATIONS = 5000
# In which networks compute features on every device: see `models.precision`.
FEATURES_ARITHMETIC = "float32"
# Stands for what a training of an earlier version, which did not note it, computed in: one of what its settings allow.
NOT_NOTED = "not noted"
# The arithmetic of a training -> key of all that decides its weights, and of all that decides its weights and its mIoU.
TrainingKeys = Mapping[str, tuple[Key, Key]]


def is_valid(content_key: str, keys: TrainingKeys) -> bool:
    """Whether a training with this key is one of those that the settings ask for, on whatever machine it was done."""
    return any(content_key == key for _, key in keys.values())


def training_keys(run: Run, entry: SourceEntry) -> TrainingKeys:
    """Keys of a source's training, one for each arithmetic that its schedule allows."""
    training = training_of(run)
    parts: dict[str, object] = {
        "model": target_network(run, entry.dataset),
        "seed": training.seed,
        "initialisation": _initialisation_key(run),
        "manifest": manifest_key(run.manifests[entry.dataset]),
        "train": run.records_key(entry.dataset, run.records(entry.dataset, "source_train")),
    }
    eval_key = run.records_key(entry.dataset, run.records(entry.dataset, "eval"))
    return _for_each_arithmetic(schedule_of(training), parts, eval_key)


def _for_each_arithmetic(schedule: Schedule, parts: Mapping[str, object], eval_key: Key) -> TrainingKeys:
    every = {**parts, "schedule": schedule.model_dump(mode="json")}
    of_all: dict[str, dict[str, object]] = {name: {**every, "arithmetic": name} for name in schedule.arithmetics}
    of_all[NOT_NOTED] = every
    return {name: (content_key(**own), content_key(**own, eval=eval_key)) for name, own in of_all.items()}


def low_shot_sample_key(run: Run, dataset: str) -> Key:
    """Key of the pixel sample of a dataset's low-shot images."""
    return run.once(f"sample of {dataset}", lambda: sample_key(run, dataset, run.low_shot(dataset)))


def sample_key(run: Run, target: str, records: Sequence[Record]) -> Key:
    """Key of all that decides a target's pixel sample and the images it is seen in."""
    return content_key(
        manifest=manifest_key(run.manifests[target]),
        sampling=run.study.sampling.model_dump(),
        records=run.records_key(target, records),
    )


def stored_sample_key(key: Key, images: str) -> Key:
    """Covers the list of images too: it stands in the file's metadata, where no page checksum guards it."""
    return Key(content_key(sample=key, images=images), key.parts)


def observations_key(run: Run, entry: SourceEntry, source: Key, sample: Key) -> Key:
    """Key of all that decides the observations of a source and a dataset; `source` is the key of its weights."""
    study = run.study
    return content_key(
        source=source,
        sample=sample,
        normalisation=study.normalisation,
        float16=study.keep_features,
        arithmetic=FEATURES_ARITHMETIC,
        libraries=library_versions(entry.kind),
    )


def score_key(observations: Key, metric: str, source_sample: Key | None) -> Key:
    """Key of a score; `source_sample` is the key of the source's own dataset as a sample, None where it is not at hand.

    Empty where there can be no score: the metric is unknown, or needs the source's own images.
    """
    if metric not in METRICS:
        return Key("")
    parts: dict[str, object] = {}
    if needs_source_images(metric):
        if source_sample is None:
            return Key("")
        parts = {"source_images": [source_sample, SOURCE_OBSERVATIONS]}
    parts |= {"settings": dict(METRICS[metric].settings), "version": METRICS[metric].version}
    return content_key(observations=observations, metric=metric, layout=SCORES_LAYOUT, **parts)


def gbc_settings_key(observations: Key, settings: Sequence[object]) -> Key:
    """Key of the scores of a pair by GBC under each of several settings."""
    return content_key(score=score_key(observations, "gbc", None), settings=settings)


def explanation_keys(observations: Key, method: str, n_pixels: int) -> dict[str, Key]:
    """File of a pair's explanation -> its key; `method` and `n_pixels` are those of the map."""
    gbc = METRICS["gbc"]
    return {
        "overlaps": content_key(observations=observations, overlaps=dict(gbc.settings), version=gbc.version),
        "classes": content_key(observations=observations, classes="pixels of the sample"),
        "map": content_key(observations=observations, map=method, n_pixels=n_pixels),
    }


def fine_tuned_map_key(before: Key, weights: Key) -> Key:
    """Key of the map of a pair after fine-tuning; `before` is that of the map before it."""
    return content_key(before=before, weights=weights)


def trial_keys(run: Run, trial: Trial) -> TrainingKeys:
    """Keys of a trial, one for each arithmetic that its schedule allows."""
    target, tuning = trial.target, fine_tuning_of(run)
    parts: dict[str, object] = {
        "start": start_key(run, trial),
        "normalisation": run.study.normalisation,
        "seed": trial.seed,
        "manifest": run.once(f"manifest of {target}", lambda: manifest_key(run.manifests[target])),
        "train": run.once(f"train of {target}", lambda: run.records_key(target, run.low_shot(target))),
    }
    eval_key = run.once(f"eval of {target}", lambda: run.records_key(target, run.records(target, "eval")))
    schedule = run.once("fine-tuning schedule", lambda: schedule_of(tuning))
    return _for_each_arithmetic(schedule, parts, eval_key)


def start_key(run: Run, trial: Trial) -> Key:
    """Key of the weights that a trial starts from."""
    if trial.source is not None:
        return weights_key(run, trial.source)
    return content_key(model=target_network(run, trial.target), weights=_initialisation_key(run))


def _initialisation_key(run: Run) -> str | None:
    checkpoint = init_checkpoint_of(run)
    return sha256_of_file(checkpoint, run.memo) if checkpoint else None
