"""The interface of a stage: its name, its items, and where an item's result is stored, what it costs and how it runs.

Everything that handles the work of a study (plan, check, dry run, every engine) loops over `STAGES` and calls this
interface. To add a stage, write one module with a `Stage` and add one line to `COMMANDS`. A stage's module imports
torch only inside `Stage.start`, because plans, checks and job scripts are made on machines without it.
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
# Returns whether this process still holds the lease of the item; long-running work checks this before it writes.
IsHeld = Callable[[], bool]
# Index of a shard, from 0, and the number of shards.
Shard = tuple[int, int]
SINGLE_SHARD: Shard = (0, 1)


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of a stage's work, as plain data.

    Attributes:
        source: Name of the source; ``scratch`` for the control; "" where the item has none.
        target: Name of the dataset; "" where the item has none.
        seed: Seed of the fine-tuning; None for other items.
        fold: Division of the target's labeled images in a race; None for other items.
    """

    source: str = ""
    target: str = ""
    seed: int | None = None
    fold: int | None = None


# The rest of an item's work, which may run in a thread while the next item is begun.
Rest = Callable[[], None]
# Does an item, or begins it and returns the rest.
Work = Callable[[Item, IsHeld], Rest | None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects items of a stage by source and target (empty selects all), and one shard of the selected items."""

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    shard: Shard = SINGLE_SHARD


@dataclass(frozen=True, slots=True)
class Status:
    """The state of an item in a run folder.

    Attributes:
        state: "stale" if the item has a result that the stage would replace.
        reasons: Why it is stale, such as "schedule.steps: 700 -> 800"; or which parts are missing.
        parts: The parts of the item that the stage would compute, such as metrics; empty means the whole item.
        seconds: How long the item took; None if that was not measured.
        arithmetic: The arithmetic of a finished training; "" for other items, and if it was not recorded.
    """

    state: State
    reasons: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    seconds: float | None = None
    arithmetic: str = ""


@dataclass(frozen=True)
class NoSettings:
    """The settings type of a stage without settings."""


class Stage(ABC):
    """One kind of work in a study.

    Attributes:
        name: Name in plans, leases and job scripts, such as "score"; also the name of the module.
        shard_noun: The unit that shards are made of, in the singular, such as "target".
        settings_type: A frozen dataclass with a default for every field; it says how the work is done. No setting
            changes a number, and each setting is an option of the command (its help text is in `cli.options`).
        selected_by: The names that items are selected by: "sources", "targets" or both.
        requires_targets: Whether the user must name targets.
        trains: Whether several processes can share the work on one item.
        planned: Whether a study is complete only when every item of this stage is done.
        uses_gpu: Whether the items take GPU time.
        is_compared: Whether the results are compared with each other and should therefore use the same arithmetic.
        basis: What a cost estimate is based on while no item is finished.
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
        """The name of the command that runs the stage, such as "score-pairs"."""
        return stages.COMMANDS[self.name][0]

    @abstractmethod
    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return the items of these sources and targets, including finished ones, in the order of execution.

        Raises:
            ConfigError: The study lacks one of the names, or a field that the stage needs.
        """

    @abstractmethod
    def label(self, item: Item) -> str:
        """Return the name of an item in messages, which is unique within the stage."""

    @abstractmethod
    def status(self, run: CachedRun, item: Item) -> Status:
        """Determine the state of an item by comparing content keys, without importing torch.

        Raises:
            SegTransferError: The result or one of its inputs cannot be read.
        """

    @abstractmethod
    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield every problem with the stage's files in the run folder, as one line each."""

    @abstractmethod
    def start(self, run: Run, items: Sequence[Item], settings: Any) -> Work:
        """Prepare for these items; returns a function that does one item, and skips it if it is finished.

        The function may return what the next item need not wait for, the rest of the work, instead of doing it. The
        engine then runs the rest in a thread, and begins the next item meanwhile.
        """

    def is_wanted(self, run: Run) -> bool:
        """Whether the study uses this stage at all."""
        return True

    def finished_seconds(self, run: Run) -> list[float]:
        """Return how long each finished item took, in seconds."""
        return []

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate how many seconds an item takes on this machine, for use while no item is finished."""
        return 0.0

    def impossible_reason(self, run: Run, item: Item) -> str:
        """Return the reason why an item can never be done, or "" if it can."""
        return ""

    def parts(self, run: CachedRun, item: Item) -> tuple[str, ...]:
        """Return the parts of an item without a result; empty if the item has no parts."""
        return ()

    def shard_key(self, item: Item) -> Hashable:
        """Return a key; items with equal keys belong to the same shard. By default, every item has its own key."""
        return item

    def task_name(self, item: Item) -> str:
        """Return a name; items with equal names share loaded data, and one cluster task does them all."""
        return " -> ".join(filter(None, (item.source, item.target)))

    def lease(self, run: Run, item: Item) -> Path:
        """Return the path of the lease of an item."""
        numbers = [str(number) for number in (item.seed, item.fold) if number is not None]
        return run.leases.joinpath(self.name, *filter(None, (item.source, item.target)), *numbers)

    def selected(self, run: Run, selection: Selection) -> list[Item]:
        """Return the items of a selection."""
        items = self.items(run, selection.sources, selection.targets)
        index, n_shards = selection.shard
        keys = set(list(dict.fromkeys(map(self.shard_key, items)))[index::n_shards])
        return [item for item in items if self.shard_key(item) in keys]

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
        except CheckpointError:  # the source is not trained yet
            return Status("missing")


def parse_shard(text: str) -> Shard:
    """Parse a shard from "I/N"; raise ConfigError unless 0 <= I < N."""
    index, _, n_shards = text.partition("/")
    if not (index.isdecimal() and n_shards.isdecimal() and int(index) < int(n_shards)):
        raise ConfigError(
            f"--shard {text}: must be I/N with 0 <= I < N; use 0/4 for the first of four shards, for example"
        )
    return int(index), int(n_shards)


def pair_label(item: Item) -> str:
    """Return the name of a pair in messages."""
    return f"{item.source} -> {item.target}"


def seed_label(item: Item) -> str:
    """Return the name of a fine-tuning in messages."""
    return f"{pair_label(item)}, seed {item.seed}"


def part_label(item: Item, part: str) -> str:
    """Return the name of a part of a pair, such as one metric, in messages."""
    return f"{pair_label(item)}, {part}"


def pair_items(run: Run, sources: Sequence[str], targets: Sequence[str]) -> list[Item]:
    """Return the pairs of these sources and targets, ordered by target; empty selections mean all."""
    selected_sources = select_names([source.name for source in run.study.sources], sources, "source")
    selected_targets = select_names(run.study.targets, targets, "target")
    pairs = [
        Item(source.name, target)
        for source, target in run.pairs
        if source.name in selected_sources and target in selected_targets
    ]
    if not pairs:
        raise ConfigError(
            f"study {run.study.name}: these sources and targets form no pair, because a source is never paired with "
            "the dataset it was trained on; name others"
        )
    return pairs
