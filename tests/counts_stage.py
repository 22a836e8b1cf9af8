"""A stage in one module, as its author would write it. It counts the images of every target."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work
from seg_transfer.stages.changes import changes
from seg_transfer.stages.sample_keys import low_shot_sample_key
from seg_transfer.store.atomic import write_text
from seg_transfer.study.run import CachedRun, Run, select_names


@dataclass(frozen=True)
class CountsSettings:
    workers: int = 0


class CountsStage(Stage):
    name = "counts"
    shard_noun = "target"
    selected_by = ("targets",)
    settings_type = CountsSettings
    basis = "a guess"

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        return [Item(target=target) for target in select_names(run.study.targets, targets, "target")]

    def label(self, item: Item) -> str:
        return f"images of {item.target}"

    def status(self, run: CachedRun, item: Item) -> Status:
        file = run.folder / "counts" / f"{item.target}.json"
        if not file.exists():
            return Status("missing")
        stored, key = json.loads(file.read_text()), low_shot_sample_key(run, item.target)
        if stored["key"] == key:
            return Status("done", seconds=2.0)
        return Status("stale", changes(stored["parts"], key, lambda name: name))

    def problems(self, run: CachedRun) -> Iterator[str]:
        for file in sorted((run.folder / "counts").glob("*.json")):
            if json.loads(file.read_text())["n_images"] < 1:
                yield f"{file}: counts no image; delete it"

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Any) -> float:
        return 7.0

    def start(self, run: Run, items: Sequence[Item], settings: CountsSettings) -> Work:
        def count(item: Item, held: IsHeld) -> None:
            if item.target == "dusk_street" and not (run.folder / "allowed").exists():
                raise ValueError("not today")
            records, key = run.low_shot(item.target), low_shot_sample_key(run, item.target)
            content = {"n_images": len(records), "workers": settings.workers, "key": key, "parts": key.parts}
            if held():
                (run.folder / "counts").mkdir(exist_ok=True)
                write_text(run.folder / "counts" / f"{item.target}.json", json.dumps(content))

        return count


STAGE = CountsStage()
