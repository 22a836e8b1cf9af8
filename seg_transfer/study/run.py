"""A study together with its data and its run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from seg_transfer.data.held_out import Fold, folds_of
from seg_transfer.data.manifest import DatasetManifest, SplitName
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records, low_shot_records
from seg_transfer.errors import ConfigError
from seg_transfer.models.entry import SourceEntry
from seg_transfer.store.atomic import sweep, write_text
from seg_transfer.store.content_key import Key, records_key, settings_key
from seg_transfer.store.lease import remove_expired as clear_leases
from seg_transfer.store.session import session
from seg_transfer.store.tables import performance_file, scores_file
from seg_transfer.study.definition import FineTuning, Study, Training, load_study, schedule_of

Pair = tuple[SourceEntry, str]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Run:
    """A study, the location of its data, and its run folder."""

    study: Study
    manifests: dict[str, DatasetManifest]
    data_root: Path
    folder: Path

    def records(self, dataset: str, split: SplitName) -> list[Record]:
        """Return the records of a split; raises DataError if files are missing."""
        return list(
            self.cached(f"{dataset} {split}", lambda: list_records(self.manifests[dataset], self.data_root, split))
        )

    def labeled(self, target: str) -> list[Record]:
        """Return the low-shot train split of a target; raises DataError if files are missing."""
        return list(self.cached(f"{target} labeled", lambda: low_shot_records(self.manifests[target], self.data_root)))

    def folds(self, target: str) -> tuple[Fold, ...]:
        """Return the divisions of a target's low-shot train split into images to train on and images to judge by.

        Raises:
            ConfigError: The study holds no images out.
            DataError: Files are missing, or there is only one image.
        """
        held = self.study.hold_out
        if held is None:
            raise ConfigError(f"study {self.study.name}: field hold_out is missing; a race needs images to judge by")
        return self.cached(f"{target} folds", lambda: folds_of(self.labeled(target), held.share, held.seed))

    def low_shot(self, target: str) -> list[Record]:
        """Return the images of a target that are scored and fine-tuned on: all but what is held out of one fold."""
        folds = self.folds(target) if self.study.hold_out else ()
        return list(folds[0].train) if len(folds) == 1 else self.labeled(target)

    def cached(self, name: str, compute: Callable[[], Value]) -> Value:
        """Return the result of `compute`, without caching it, because files may change while a stage runs."""
        return compute()

    def records_key(self, dataset: str, records: Iterable[Record]) -> Key:
        """Return the key of the contents of these images and labels."""
        return records_key(records, trust_mtime=self.manifests[dataset].trust_mtime, memo=self.memo)

    @property
    def memo(self) -> Path | None:
        """Folder that caches the hashes of unchanged files across processes."""
        return self.folder / "keys"

    def source_folder(self, source: str) -> Path:
        """Return the folder of a trained source's weights and card."""
        return self.folder / "sources" / source

    def sample_file(self, target: str) -> Path:
        """Return the path of a target's pixel sample."""
        return self.folder / "samples" / f"{target}.parquet"

    def scores_file(self, source: str, target: str) -> Path:
        """Return the path of a pair's scores, which have one row per metric."""
        return scores_file(self.folder, source, target)

    def features_file(self, source: str, target: str) -> Path:
        """Return the path of a pair's observations, which exists if the study keeps them."""
        return self.folder / "features" / source / f"{target}.parquet"

    def performance_file(self, source: str, target: str) -> Path:
        """Return the path of a pair's actual performance, which has one row per fine-tuning seed."""
        return performance_file(self.folder, source, target)

    def fine_tuned_folder(self, source: str, target: str, seed: int) -> Path:
        """Return the folder of a fine-tuning's weights and card, which exists if the study keeps them."""
        return self.folder / "fine_tuned" / source / target / str(seed)

    @property
    def leases(self) -> Path:
        """Folder of the leases of all items."""
        return self.folder / "leases"

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The study and everything that it names, as plain data."""
        tuning = self.study.fine_tuning
        return {
            "study": self.study.model_dump(mode="json"),
            "fine_tuning_schedule": schedule_of(tuning).model_dump(mode="json") if tuning else None,
            "data_root": str(self.data_root.resolve()),
            "manifests": {name: manifest.model_dump(mode="json") for name, manifest in sorted(self.manifests.items())},
        }

    def origin(self, kind: str, target: str, source_key: str, source: str = "") -> dict[str, str]:
        """Return the metadata that identifies a file's settings and source weights; arguments as in `settings_key`."""
        return {"settings_key": settings_key(kind, self.resolved, target, source), "source_key": source_key}

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs, ordered by target; a source is never paired with the dataset it was trained on."""
        return [
            (source, target)
            for target in self.study.targets
            for source in self.study.sources
            if source.dataset != target
        ]


@dataclass(frozen=True)
class CachedRun(Run):
    """A run whose files are assumed not to change during inspection, so that each file is read once.

    Attributes:
        ignore_memo: Whether to ignore the hashes cached by other processes.
    """

    ignore_memo: bool = False
    _cache: dict[str, Any] = field(default_factory=dict)

    def cached(self, name: str, compute: Callable[[], Value]) -> Value:
        """Return what `compute` returned the first time."""
        if name not in self._cache:
            self._cache[name] = compute()
        value: Value = self._cache[name]
        return value

    @property
    def memo(self) -> Path | None:
        """Folder that caches the hashes of unchanged files across processes."""
        return None if self.ignore_memo else super().memo


def snapshot(run: Run, *, ignore_memo: bool = False) -> CachedRun:
    """Return a copy of the run for inspection, which reads each file once."""
    return CachedRun(run.study, run.manifests, run.data_root, run.folder, ignore_memo)


def open_run(study_file: Path, data_root: Path, folder: Path | None = None) -> Run:
    """Open the run of a study; its folder is `folder`, or ``runs/<name of the study>`` in the working directory."""
    study, manifests = load_study(study_file)
    return Run(study, manifests, data_root, folder or Path("runs") / study.name)


def training_of(run: Run) -> Training:
    """Return the study's source training; raises ConfigError if the field is missing."""
    if run.study.source_training is None:
        raise ConfigError(f"study {run.study.name}: field source_training is missing; name a schedule")
    return run.study.source_training


def fine_tuning_of(run: Run) -> FineTuning:
    """Return the study's fine-tuning; raises ConfigError if the field is missing."""
    if run.study.fine_tuning is None:
        raise ConfigError(f"study {run.study.name}: field fine_tuning is missing; name a schedule")
    return run.study.fine_tuning


def prepare_folder(run: Run) -> None:
    """Create the run folder, write the resolved study into it, and remove leftovers of killed processes."""
    run.folder.mkdir(parents=True, exist_ok=True)
    sweep(run.folder)
    if not session():
        clear_leases(run.leases)
    write_text(run.folder / "study.yaml", yaml.safe_dump(run.resolved, sort_keys=False, allow_unicode=True))


def select_names(names: Iterable[str], wanted: Iterable[str], kind: str) -> list[str]:
    """Return the requested names, or all names if none is requested; raises ConfigError for an unknown name."""
    known, requested = list(names), list(wanted)
    unknown = [name for name in requested if name not in known]
    if unknown:
        raise ConfigError(f"--{kind} {unknown[0]}: not in the study; choose among {', '.join(known)}")
    return [name for name in known if not requested or name in requested]
