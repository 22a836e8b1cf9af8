"""A study at work: its run folder, its files, and stages that go on when one item fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from seg_transfer.data.manifest import DatasetManifest, SplitName
from seg_transfer.data.records import Record, list_records, low_shot_records
from seg_transfer.errors import ConfigError, IncompleteError, SegTransferError, as_failure
from seg_transfer.messages import complain
from seg_transfer.store.atomic import sweep, write_text
from seg_transfer.store.content_key import Key, records_key, settings_key
from seg_transfer.store.lease import clear as clear_leases
from seg_transfer.store.session import session
from seg_transfer.store.tables import performance_file, scores_file
from seg_transfer.study.definition import FineTuning, SourceEntry, Study, Training, load_study, schedule_of

Pair = tuple[SourceEntry, str]
Item = TypeVar("Item")
Say = Callable[[str], None]
# Which part of a stage this is, counted from 0, and of how many.
Shard = tuple[int, int]
WHOLE: Shard = (0, 1)


@dataclass(frozen=True)
class Run:
    """A study, the place of its data, and its run folder."""

    study: Study
    manifests: dict[str, DatasetManifest]
    data_root: Path
    folder: Path

    def records(self, dataset: str, split: SplitName) -> list[Record]:
        """Images and labels of a split; raises DataError where files are missing."""
        found = self.once(f"{dataset} {split}", lambda: list_records(self.manifests[dataset], self.data_root, split))
        return list(found)

    def low_shot(self, target: str) -> list[Record]:
        """The low-shot train split of a target."""
        found = self.once(f"{target} low shot", lambda: low_shot_records(self.manifests[target], self.data_root))
        return list(found)

    def once(self, what: str, look: Callable[[], Item]) -> Item:
        """What looking at files gives. A stage looks every time, for files may change while it works."""
        return look()

    def records_key(self, dataset: str, records: Iterable[Record]) -> Key:
        """Key of the bytes of these images and labels."""
        return records_key(records, trust_mtime=self.manifests[dataset].trust_mtime, memo=self.memo)

    @property
    def memo(self) -> Path | None:
        """Where the hashes of files that do not change are kept from process to process."""
        return self.folder / "keys"

    def source_folder(self, source: str) -> Path:
        """Where a trained source's weights and card lie."""
        return self.folder / "sources" / source

    def sample_file(self, target: str) -> Path:
        """A target's pixel sample."""
        return self.folder / "samples" / f"{target}.parquet"

    def scores_file(self, source: str, target: str) -> Path:
        """A pair's scores, one row per metric."""
        return scores_file(self.folder, source, target)

    def features_file(self, source: str, target: str) -> Path:
        """A pair's observations, when the study keeps them."""
        return self.folder / "features" / source / f"{target}.parquet"

    def fine_tuned_folder(self, source: str, target: str, seed: int) -> Path:
        """Where the weights and the card of a fine-tuning lie, when the study keeps them."""
        return self.folder / "fine_tuned" / source / target / str(seed)

    def lease(self, kind: str, *names: str) -> Path:
        """Where the lease of an item of a stage lies."""
        return self.folder.joinpath("leases", kind, *names)

    def performance_file(self, source: str, target: str) -> Path:
        """A pair's actual performance, one row per fine-tuning seed."""
        return performance_file(self.folder, source, target)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The study with all that it names, as plain data."""
        tuning = self.study.fine_tuning
        return {
            "study": self.study.model_dump(mode="json"),
            "fine_tuning_schedule": schedule_of(tuning).model_dump(mode="json") if tuning else None,
            "data_root": str(self.data_root.resolve()),
            "manifests": {name: manifest.model_dump(mode="json") for name, manifest in sorted(self.manifests.items())},
        }

    def origin(self, kind: str, target: str, source_key: str) -> dict[str, str]:
        """What a file of "scores" or "performance" says of its settings and of the weights it comes from."""
        return {"settings_key": settings_key(kind, self.resolved, target), "source_key": source_key}

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs, target by target; a source is never paired with the dataset it was trained on."""
        return [
            (source, target)
            for target in self.study.targets
            for source in self.study.sources
            if source.dataset != target
        ]


@dataclass(frozen=True)
class StillRun(Run):
    """A run whose files are taken not to change while it is looked at, so that each is looked at once.

    Attributes:
        anew: Believe no hash that was kept by another process.
    """

    anew: bool = False
    _seen: dict[str, Any] = field(default_factory=dict)

    def once(self, what: str, look: Callable[[], Item]) -> Item:
        """What looking at files gave the first time."""
        if what not in self._seen:
            self._seen[what] = look()
        found: Item = self._seen[what]
        return found

    @property
    def memo(self) -> Path | None:
        """Where the hashes of files that do not change are kept from process to process."""
        return None if self.anew else super().memo


def still(run: Run, *, anew: bool = False) -> StillRun:
    """The same run, to be looked at."""
    return StillRun(run.study, run.manifests, run.data_root, run.folder, anew)


def open_run(study_file: Path, data_root: Path, folder: Path | None = None) -> Run:
    """Read a study; its run folder is `folder`, or ``runs/<name of the study>`` below the working directory."""
    study, manifests = load_study(study_file)
    return Run(study, manifests, data_root, folder or Path("runs") / study.name)


def training_of(run: Run) -> Training:
    """How the study trains sources; raises ConfigError when it does not say."""
    if run.study.source_training is None:
        raise ConfigError(f"study {run.study.name}: field source_training is missing; name a schedule")
    return run.study.source_training


def fine_tuning_of(run: Run) -> FineTuning:
    """How the study fine-tunes; raises ConfigError when it does not say."""
    if run.study.fine_tuning is None:
        raise ConfigError(f"study {run.study.name}: field fine_tuning is missing; name a schedule")
    return run.study.fine_tuning


def prepare_folder(run: Run) -> None:
    """Make the run folder, write the resolved study into it, and remove what killed processes left half-written."""
    run.folder.mkdir(parents=True, exist_ok=True)
    sweep(run.folder)
    if not session():
        clear_leases(run.folder / "leases")
    write_text(run.folder / "study.yaml", yaml.safe_dump(run.resolved, sort_keys=False, allow_unicode=True))


def chosen(names: Iterable[str], wanted: Iterable[str], kind: str) -> list[str]:
    """The names that were asked for, all when none was; raises ConfigError for a name the study lacks."""
    known, asked = list(names), list(wanted)
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ConfigError(f"--{kind} {unknown[0]}: the study has no such {kind}; it has {', '.join(known)}")
    return [name for name in known if not asked or name in asked]


def share(items: Sequence[Item], shard: Shard) -> list[Item]:
    """Every n-th item, from the i-th, for the shard (i, n)."""
    number, of = shard
    return list(items[number::of])


def shard_of(text: str) -> Shard:
    """The shard that "i/n" means; raises ConfigError unless 0 <= i < n."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise ConfigError(f"--shard {text}: it must be I/N with 0 <= I < N, such as 0/4 for the first of four")
    return int(number), int(of)


def wanted_pairs(run: Run, sources: Iterable[str], targets: Iterable[str]) -> list[Pair]:
    """The pairs of these sources and targets, all when none is named, target by target."""
    some_sources = chosen([source.name for source in run.study.sources], sources, "source")
    some_targets = chosen(run.study.targets, targets, "target")
    pairs = [pair for pair in run.pairs if pair[0].name in some_sources and pair[1] in some_targets]
    if not pairs:
        raise ConfigError(
            f"study {run.study.name}: these sources and targets make no pair, for a source is never paired with the "
            "dataset it was trained on; name others"
        )
    return pairs


def pair_label(pair: Pair) -> str:
    """How a pair is written in messages."""
    return f"{pair[0].name} -> {pair[1]}"


def metric_label(pair: Pair, metric: str) -> str:
    """How one metric of a pair is written in messages."""
    return f"{pair_label(pair)}, {metric}"


class PartsFailedError(SegTransferError):
    """Parts of an item failed, and the others are kept; ``parts``: what failed and why."""

    def __init__(self, parts: Mapping[str, SegTransferError]) -> None:
        super().__init__("; ".join(map(str, parts.values())))
        self.parts = dict(parts)


class Failures:
    """What failed in a stage: every reason is said once, in one line, and the stage ends with all of them."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._failed: dict[str, str] = {}
        self._reasons: dict[str, int] = {}

    def extend(self, failures: Mapping[str, SegTransferError], *, said: bool = False) -> None:
        """Take note of what failed and why; another process may have said it."""
        for label, error in failures.items():
            self._failed[label] = str(error)
            if str(error) not in self._reasons and not said:
                self._say(f"{label}: {error}")
            self._reasons[str(error)] = error.exit_code

    def end(self) -> None:
        """Raise IncompleteError when something failed. The exit code is that of the reasons when they agree."""
        end_with(self._failed, set(self._reasons.values()))


def end_with(failed: Mapping[str, str], codes: set[int]) -> None:
    """Raise IncompleteError when something failed: items, and the reason of each."""
    if failed:
        raise IncompleteError(
            f"failed: {', '.join(failed)}; all others are finished and kept, run the same command again after mending",
            exit_code=codes.pop() if len(codes) == 1 else None,
            reasons=failed,
        )


def for_each(
    items: Iterable[Item], work: Callable[[Item], None], label: Callable[[Item], str], say: Say = complain
) -> None:
    """Do the work for every item, whatever happens to the others.

    Raises:
        IncompleteError: At the end, when items failed. Each reason was said once, in one line.
    """
    failures = Failures(say)
    for item in items:
        failures.extend(failures_of(partial(work, item), label(item)))
    failures.end()


def failures_of(work: Callable[[], None], label: str) -> dict[str, SegTransferError]:
    """Do the work for one item; returns what failed of it and why.

    Whatever its network, metric or library raises is the item's own failure. Only an OSError, such as of a full disk,
    is the machine's, and is raised: the same item may succeed later.
    """
    try:
        work()
    except PartsFailedError as error:
        return error.parts
    except OSError:
        raise
    except (Exception, SystemExit) as error:
        logging.getLogger(__name__).debug("%s", label, exc_info=True)
        return {label: as_failure(error)}
    return {}
