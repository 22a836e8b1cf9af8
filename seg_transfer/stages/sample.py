"""The stage that draws pixel samples, with one item per target."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from seg_transfer.stages.base import IsHeld, Item, Stage, Status, Work
from seg_transfer.stages.changes import changes
from seg_transfer.stages.files import table_problems
from seg_transfer.stages.sample_keys import low_shot_sample_key, sample_part_name, stored_sample_key
from seg_transfer.store.key_parts import KEY_PARTS, parts_in
from seg_transfer.store.tables import SAMPLES, metadata_of, read_table
from seg_transfer.study.run import CachedRun, Run, select_names

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe

_logger = logging.getLogger(__name__)


class SampleStage(Stage):
    """Writes ``samples/<target>.parquet``, which lists the pixels of a target that are used."""

    name = "sample"
    shard_noun = "target"
    selected_by = ("targets",)
    uses_gpu = False
    basis = "a timed label map"

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return one item per target."""
        return [Item(target=target) for target in select_names(run.study.targets, targets, "target")]

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return f"sample of {item.target}"

    def status(self, run: CachedRun, item: Item) -> Status:
        """Check whether the stored sample matches the study's current settings."""
        file = run.sample_file(item.target)
        if not file.exists():
            return Status("missing")
        stored = read_table(file, SAMPLES)
        key = stored_sample_key(low_shot_sample_key(run, item.target), metadata_of(stored, "images"))
        if metadata_of(stored, "content_key") == key:
            return Status("done")
        parts = parts_in(metadata_of(stored, KEY_PARTS)).get(item.target, {})
        return Status("stale", changes(parts, key, partial(sample_part_name, item.target)))

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all samples in the folder."""
        for file in sorted((run.folder / "samples").glob("*.parquet")):
            yield from table_problems(file, SAMPLES, partial(_table_problems, file))

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate reading every label map once."""
        return probe.label_maps(item.target)

    def start(self, run: Run, items: Sequence[Item], settings: object) -> Work:
        """Prepare to draw the missing samples."""
        from seg_transfer.stages.sampling import pixel_sample

        def draw(item: Item, _is_held: IsHeld) -> None:
            sample = pixel_sample(run, item.target, run.low_shot(item.target))
            n_images, file = len(sample.image_ids), run.sample_file(item.target)
            _logger.info("%s: %d pixels of %d images in %s", item.target, len(sample), n_images, file)

        return draw


def _table_problems(file: Path, table: pa.Table) -> Iterator[str]:
    dataset = metadata_of(table, "dataset")
    if dataset != file.stem:
        yield f"is the sample of {dataset!r}, but its name says {file.stem!r}"
    pixels = table.select(["image_id", "row", "column"])
    if pixels.group_by(pixels.column_names).aggregate([]).num_rows != pixels.num_rows:
        yield "holds a pixel twice"


STAGE = SampleStage()
