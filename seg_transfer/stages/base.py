"""What a stage of a study is: a name, items, and for each item where its result lies, what it costs and how it runs.

Everything that goes through the work of a study (plan, check, dry run, every engine) goes through `STAGES` and asks the
stage. A new stage is one module with a `Stage`, and one line in `COMMANDS`. A stage's module imports torch
inside `Stage.start` only: plans, checks and job scripts are made where there is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from seg_transfer import stages
from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.study.run import CachedRun, Run, select_names, snapshot

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe

State = Literal["done", "missing", "stale"]
# Returns whether the item is still this process's: long work asks before it writes.
Held = Callable[[], bool]
# Which part of a stage this is, counted from 0, and of how many.
Shard = tuple[int, int]
WHOLE: Shard = (0, 1)


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of a stage's work, as plain data.

    Attributes:
        source: Name of the source; ``scratch`` for the control; "" where the item has none.
        target: Name of the dataset; "" where the item has none.
        seed: Of a fine-tuning.
    """

    source: str = ""
    target: str = ""
    seed: int | None = None


Work = Callable[[Item, Held], None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items of a stage: those of these sources and targets (all where none is named), and of them one shard."""

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    shard: Shard = WHOLE


@dataclass(frozen=True, slots=True)
class Status:
    """What a run folder holds of an item.

    Attributes:
        state: "stale" when there is a result that the stage would replace.
        reasons: What made it stale, such as "schedule.steps: 700 -> 800"; or which parts are missing.
        parts: What of the item the stage would compute, such as metrics; empty for the whole of it.
        seconds: What it took; None where that was not measured.
        arithmetic: What a finished training computed in; "" for other items, and where it was not recorded.
    """

    state: State
    reasons: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    seconds: float | None = None
    arithmetic: str = ""


@dataclass(frozen=True)
class NoSettings:
    """The settings of a stage that has none."""


class Stage(ABC):
    """One kind of a study's work.

    Attributes:
        name: In plans, leases and job scripts, such as "score"; that of its module.
        shard_noun: What a shard is counted in, in the singular.
        settings_type: A frozen dataclass with a default for every field: how the work is done. No setting decides a
            number, and each is an option of the command (`cli.options` has its help).
        selected_by: By which names its items are selected, "sources", "targets" or both.
        requires_targets: Whether targets must be named.
        trains: Whether several processes can share the work on one item.
        planned: Whether a study is complete only when every item is done.
        uses_gpu: Whether its items take GPU time.
        is_compared: Whether its results are compared with each other, so that all should use the same arithmetic.
        basis: What an estimated cost rests on where no item is finished yet.
    """

    name: ClassVar[str]
    shard_noun: ClassVar[str]
    settings_type: ClassVar[type[Any]] = NoSettings
    selected_by: ClassVar[tuple[str, ...]] = ("sources", "targets")
    requires_targets: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    planned: ClassVar[bool] = True
    uses_gpu: ClassVar[bool] = True
    is_compared: ClassVar[bool] = False
    basis: ClassVar[str] = "a timed forward pass"

    @property
    def command(self) -> str:
        """Of the command line, such as "score-pairs"."""
        return stages.COMMANDS[self.name][0]

    @abstractmethod
    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """The items of these sources and targets, finished ones too, in the order in which they are done.

        Raises:
            ConfigError: The study lacks one of the names, or what the stage needs.
        """

    @abstractmethod
    def label(self, item: Item) -> str:
        """How messages name an item; no two items of a stage have the same label."""

    @abstractmethod
    def status(self, run: CachedRun, item: Item) -> Status:
        """What the run folder holds of an item, by comparing content keys; imports no torch.

        Raises:
            SegTransferError: Its result, or what decides it, cannot be read.
        """

    @abstractmethod
    def problems(self, run: CachedRun) -> Iterator[str]:
        """Everything that is wrong with the stage's files in the run folder, one line each."""

    @abstractmethod
    def start(self, run: Run, items: Sequence[Item], settings: Any) -> Work:
        """Get ready for these items; returns the function that does one of them, and skips a finished one."""

    def is_wanted(self, run: Run) -> bool:
        """Whether a study asks for this stage at all."""
        return True

    def finished_seconds(self, run: Run) -> list[float]:
        """What finished items took."""
        return []

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Seconds that an item is expected to take on this machine, where none is finished yet."""
        return 0.0

    def why_impossible(self, run: Run, item: Item) -> str:
        """Why an item cannot be done at all; "" where it can."""
        return ""

    def parts(self, run: CachedRun, item: Item) -> tuple[str, ...]:
        """The parts of an item that has no result; empty where it is done as a whole."""
        return ()

    def shard_key(self, item: Item) -> Hashable:
        """Items of equal keys are in one shard; every item by itself, by default."""
        return item

    def task_name(self, item: Item) -> str:
        """Items of equal names share what is loaded, and are done by one task of a cluster."""
        return " -> ".join(filter(None, (item.source, item.target)))

    def lease(self, run: Run, item: Item) -> Path:
        """Where the lease of an item lies."""
        names = (item.source, item.target, "" if item.seed is None else str(item.seed))
        return run.leases.joinpath(self.name, *filter(None, names))

    def selected(self, run: Run, selection: Selection) -> list[Item]:
        """The items of a selection."""
        items = self.items(run, selection.sources, selection.targets)
        number, of = selection.shard
        shared = set(list(dict.fromkeys(map(self.shard_key, items)))[number::of])
        return [item for item in items if self.shard_key(item) in shared]

    def missing(self, run: Run, items: Iterable[Item], settings: Any = None) -> dict[Item, tuple[str, ...]]:
        """The items that the stage would compute with these settings, and which parts of each (see `Status.parts`)."""
        inspected = run if isinstance(run, CachedRun) else snapshot(run)
        statuses = {item: self._status(inspected, item) for item in items}
        return {
            item: status.parts or self.parts(inspected, item)
            for item, status in statuses.items()
            if status.state != "done"
        }

    def _status(self, run: CachedRun, item: Item) -> Status:
        try:
            return self.status(run, item)
        except CheckpointError:  # its source is not trained yet
            return Status("missing")


def shard_from(text: str) -> Shard:
    """The shard that "i/n" means; raises ConfigError unless 0 <= i < n."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise ConfigError(f"--shard {text}: it must be I/N with 0 <= I < N, such as 0/4 for the first of four")
    return int(number), int(of)


def pair_label(item: Item) -> str:
    """How messages name a pair."""
    return f"{item.source} -> {item.target}"


def seed_label(item: Item) -> str:
    """How messages name a fine-tuning."""
    return f"{pair_label(item)}, seed {item.seed}"


def part_label(item: Item, part: str) -> str:
    """How messages name a part of a pair, such as one metric."""
    return f"{pair_label(item)}, {part}"


def pair_items(run: Run, sources: Sequence[str], targets: Sequence[str]) -> list[Item]:
    """The pairs of these sources and targets, all when none is named, target by target."""
    some_sources = select_names([source.name for source in run.study.sources], sources, "source")
    some_targets = select_names(run.study.targets, targets, "target")
    pairs = [
        Item(source.name, target)
        for source, target in run.pairs
        if source.name in some_sources and target in some_targets
    ]
    if not pairs:
        raise ConfigError(
            f"study {run.study.name}: these sources and targets make no pair, for a source is never paired with the "
            "dataset it was trained on; name others"
        )
    return pairs
