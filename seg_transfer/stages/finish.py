"""The stage that ends a race: the winner is fine-tuned to the end on all labeled images, and its weights are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work, pair_items
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import read_card_or_problem
from seg_transfer.stages.finetune import tuning_schedule
from seg_transfer.stages.race_keys import finish_keys, whole_label
from seg_transfer.stages.train import TrainSettings
from seg_transfer.stages.training_keys import is_valid, nearest_key
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.study.run import CachedRun, Run, fine_tuning_of, snapshot

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe


class FinishStage(Stage):
    """Writes weights, card and loader of a source into ``fine_tuned/<source>/<target>/<seed>``."""

    name = "finish"
    shard_noun = "fine-tuning"
    settings_type = TrainSettings
    planned = False

    def is_wanted(self, run: Run) -> bool:
        """Whether the study holds images out, and says how sources are fine-tuned."""
        return run.study.hold_out is not None and run.study.fine_tuning is not None

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return every pair once, with the first seed of the study's fine-tunings."""
        seed = fine_tuning_of(run).seeds[0]
        return [Item(pair.source, pair.target, seed) for pair in pair_items(run, sources, targets)]

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return whole_label(item)

    def status(self, run: CachedRun, item: Item) -> Status:
        """Check whether card and weights exist and match the study's current settings and the item's race."""
        assert item.seed is not None
        file = run.fine_tuned_folder(item.source, item.target, item.seed) / FILE_NAME
        if not file.exists():
            return Status("missing")
        card, keys = read_source_card(file), finish_keys(run, item)
        if not card.weights_file(file.parent).exists():
            return Status("missing", reasons=("its weights",))
        if is_valid(card.content_key, keys):
            return Status("done", seconds=card.seconds, arithmetic=card.key_parts.get("arithmetic", ""))
        return Status("stale", changes(card.key_parts, nearest_key(keys, card.key_parts), lambda name: name))

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all cards and weights in the folder."""
        for file in sorted((run.folder / "fine_tuned").glob(f"*/*/*/{FILE_NAME}")):
            card = read_card_or_problem(file)
            if isinstance(card, str):
                yield f"{card} (weights of a fine-tuning: delete {file.parent})"

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate the steps of the schedule."""
        network, schedule = probe.source(run.study.source(item.source)), tuning_schedule(run, item)
        return schedule.steps * probe.step(network, item.target, schedule)

    def start(self, run: Run, items: Sequence[Item], settings: TrainSettings) -> Work:
        """Prepare to fine-tune; an interrupted fine-tuning resumes."""
        from seg_transfer.stages.finishing import finish

        def tune(item: Item, is_held: IsHeld) -> None:
            # The images as they are when the training begins, as for their key.
            finish(snapshot(run), item, is_held, settings.workers)

        return tune


STAGE = FinishStage()
