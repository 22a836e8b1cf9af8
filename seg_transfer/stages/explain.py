"""The stage that explains scores, with one item per pair of the named targets. A study is complete without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from seg_transfer.errors import ConfigError
from seg_transfer.observations.projection import umap_installed
from seg_transfer.stages.base import Item, Stage, Status, Work, pair_items, pair_label
from seg_transfer.stages.explanation_keys import MAP_PIXELS, explanation_keys
from seg_transfer.stages.files import table_problems
from seg_transfer.stages.sample_keys import low_shot_sample_key
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.stages.score_keys import observations_key
from seg_transfer.store.explanations import SCHEMAS, explanation_file, is_explained
from seg_transfer.store.tables import metadata_of
from seg_transfer.study.networks import weights_key
from seg_transfer.study.run import CachedRun, Run, snapshot

if TYPE_CHECKING:
    from seg_transfer.stages.probe import Probe


@dataclass(frozen=True)
class ExplainSettings(ScoreSettings):
    """The settings of scoring, and ``umap``: whether maps are drawn with UMAP instead of PCA."""

    umap: bool = False


class ExplainStage(Stage):
    """Writes ``explanations/<source>/<target>/``: class overlaps and maps of the pixels."""

    name = "explain"
    shard_noun = "pair"
    settings_type = ExplainSettings
    requires_targets = True
    planned = False

    def items(self, run: Run, sources: Sequence[str] = (), targets: Sequence[str] = ()) -> list[Item]:
        """Return the pairs of these targets; at least one target must be named."""
        if not targets:
            raise ConfigError(
                "explain: no target is named; name at least one, each takes a forward pass of every source"
            )
        return pair_items(run, sources, targets)

    def label(self, item: Item) -> str:
        """Return the name of the item in messages."""
        return pair_label(item)

    def status(self, run: CachedRun, item: Item) -> Status:
        """Whether overlaps, classes and a map, by PCA or UMAP, are those of the present settings."""
        return Status("done" if _is_explained(run, item, "pca") or _is_explained(run, item, "umap") else "missing")

    def missing(self, run: Run, items: Iterable[Item], settings: Any = None) -> dict[Item, tuple[str, ...]]:
        """The pairs to explain; with settings, also those whose map is by the other method."""
        chosen, inspected = list(items), run if isinstance(run, CachedRun) else snapshot(run)
        missing = super().missing(inspected, chosen, settings)
        method = None if settings is None else "umap" if settings.umap else "pca"
        return {
            item: ()
            for item in chosen
            if item in missing or (method is not None and not _is_explained(inspected, item, method))
        }

    def problems(self, run: CachedRun) -> Iterator[str]:
        """Yield the problems of all explanations in the folder."""
        for file in sorted((run.folder / "explanations").glob("*/*/*.parquet")):
            if file.stem in SCHEMAS:
                yield from table_problems(file, SCHEMAS[file.stem], partial(_table_problems, file))
            else:
                yield f"{file}: not a file of an explanation, whose files are {', '.join(SCHEMAS)}; delete it"

    def estimate(self, run: Run, item: Item, parts: Sequence[str], probe: Probe) -> float:
        """Estimate one forward pass per image."""
        return probe.images(probe.source(run.study.source(item.source)), item.target, run.low_shot(item.target))

    def start(self, run: Run, items: Sequence[Item], settings: ExplainSettings) -> Work:
        """Prepare to write the missing explanations."""
        from seg_transfer.stages.context import ScoringContext
        from seg_transfer.stages.explaining import explain_pair

        if settings.umap and not umap_installed():
            raise ConfigError("--umap needs a library that is not installed: pip install 'seg_transfer[umap]'")
        context = ScoringContext.for_run(run, settings.device, settings.batch_size, settings.memory_gb)
        method = "umap" if settings.umap else "pca"
        return lambda item, is_held: explain_pair(context, item, is_held, method)


def _is_explained(run: CachedRun, item: Item, method: str) -> bool:
    """Whether a pair has valid overlaps, classes and a map by `method`."""
    entry = run.study.source(item.source)
    observed = observations_key(run, entry, weights_key(run, entry), low_shot_sample_key(run, item.target))
    return all(
        is_explained(explanation_file(run.folder, item.source, item.target, name), key)
        for name, key in explanation_keys(observed, method, MAP_PIXELS).items()
    )


def _table_problems(file: Path, table: pa.Table) -> Iterator[str]:
    source, target = file.parent.parts[-2:]
    stated = metadata_of(table, "source"), metadata_of(table, "target")
    if stated != (source, target):
        yield f"belongs to {stated[0]} -> {stated[1]}, but its folder to {source} -> {target}"
    for name in table.column_names:
        if pa.types.is_floating(table[name].type) and not pc.all(pc.is_finite(table[name])).as_py():
            yield f"column {name} holds a value that is not finite"
    if file.stem == "overlaps" and table.num_rows and not 0 <= pc.min(table["overlap"]).as_py() <= 1:
        yield "an overlap is outside [0, 1]"


STAGE = ExplainStage()
