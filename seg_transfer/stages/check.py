"""Whether a run folder is whole: every item of its study done, every file in it valid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from seg_transfer.errors import CheckpointError, ResultsError
from seg_transfer.models.configs import source_key
from seg_transfer.stages.plan import KINDS, PlanItem, plan_items
from seg_transfer.store.atomic import entries, is_temporary
from seg_transfer.store.explanations import SCHEMAS as EXPLANATIONS
from seg_transfer.store.source_card import FILE_NAME, read_source_card
from seg_transfer.store.tables import PERFORMANCE, SAMPLES, SCORES, metadata_of, read_table
from seg_transfer.study.run import Run, StillRun, still

_RowFaults = Callable[[list[dict[str, Any]]], Iterable[str]]
_AGAIN = "delete it and run the same command again"


def problems(run: Run) -> list[str]:
    """Everything that is wrong with a run folder, one line each; all bytes are read anew."""
    looked_at = still(run, anew=True)
    of_files = list(dict.fromkeys(_problems_of_files(looked_at)))
    # A damaged file is told once, not again by every item that rests on it.
    items = [item for item in plan_items(looked_at) if item.state != "done" and not set(item.reasons) & set(of_files)]
    return [*of_files, *map(_told, items)]


def _told(item: PlanItem) -> str:
    reasons = f" ({', '.join(item.reasons)})" if item.reasons else ""
    return f"{item.kind} {item.name}: {item.state}{reasons}; run seg-transfer {KINDS[item.kind]}"


def _problems_of_files(run: StillRun) -> Iterator[str]:
    datasets = {source.name: source.dataset for source in run.study.sources}
    for file in sorted((run.folder / "sources").glob(f"*/{FILE_NAME}")):
        yield from _problems_of_source(file)
    for file in sorted((run.folder / "samples").glob("*.parquet")):
        yield from _problems_of_table(file, SAMPLES, partial(_sample_faults, file))
    of_kind: dict[str, tuple[pa.Schema, _RowFaults]] = {
        "scores": (SCORES, _score_faults),
        "performance": (PERFORMANCE, _performance_faults),
    }
    for kind, (schema, faults) in of_kind.items():
        for file in sorted((run.folder / kind).glob("*/*.parquet")):
            own = datasets.get(file.parent.name, file.parent.name)
            yield from _problems_of_table(file, schema, partial(_pair_faults, file, own, faults))
    for file in sorted((run.folder / "explanations").glob("*/*/*.parquet")):
        yield from _problems_of_explanation(file)
    for file in sorted((run.folder / "fine_tuned").glob(f"*/*/*/{FILE_NAME}")):
        yield from _problems_of_fine_tuned(file)
    for file in sorted((run.folder / "features").glob("*/*.parquet")):
        yield from _problems_of_features(file)
    for path in sorted(filter(is_temporary, entries(run.folder))):
        yield f"{path}: left by a process that was killed, or still at work; wait, or run any stage, which removes it"


def _problems_of_source(file: Path) -> Iterator[str]:
    try:
        source_key(file)
        card = read_source_card(file)
    except CheckpointError as error:
        yield " ".join(str(error).split())
        return
    if card.source != file.parent.name:
        yield f"{file}: field source is {card.source!r} in the folder of {file.parent.name!r}; train the source again"
    if not 0 <= card.miou <= 1:
        yield f"{file}: field miou is {card.miou}; a fraction in [0, 1] is expected, train the source again"


def _problems_of_fine_tuned(file: Path) -> Iterator[str]:
    try:
        source_key(file)
        card = read_source_card(file)
    except CheckpointError as error:
        yield f"{' '.join(str(error).split())} (weights of a fine-tuning: delete {file.parent})"
        return
    source, target, seed = file.parts[-4:-1]
    if (card.source, card.dataset, str(card.seed)) != (source, target, seed):
        told = f"{card.source} -> {card.dataset}, seed {card.seed}"
        yield f"{file}: is of {told}, by its folder of {source} -> {target}, seed {seed}; delete {file.parent}"


def _problems_of_explanation(file: Path) -> Iterator[str]:
    if file.stem not in EXPLANATIONS:
        yield f"{file}: no file of an explanation, which has {', '.join(EXPLANATIONS)}; delete it"
        return
    yield from _problems_of_table(file, EXPLANATIONS[file.stem], partial(_explanation_faults, file))


def _explanation_faults(file: Path, table: pa.Table) -> Iterator[str]:
    source, target = file.parent.parts[-2:]
    said = metadata_of(table, "source"), metadata_of(table, "target")
    if said != (source, target):
        yield f"is of {said[0]} -> {said[1]}, by its folder of {source} -> {target}"
    for name in table.column_names:
        if pa.types.is_floating(table[name].type) and not pc.all(pc.is_finite(table[name])).as_py():
            yield f"column {name} holds a value that is not finite"
    if file.stem == "overlaps" and table.num_rows and not 0 <= pc.min(table["overlap"]).as_py() <= 1:
        yield "an overlap is outside [0, 1]"


def _problems_of_table(file: Path, schema: pa.Schema, faults: Callable[[pa.Table], Iterable[str]]) -> Iterator[str]:
    try:
        table = read_table(file, schema)
    except ResultsError as error:
        yield " ".join(str(error).split())
        return
    yield from (f"{file}: {fault}; {_AGAIN}" for fault in faults(table))


def _sample_faults(file: Path, table: pa.Table) -> Iterator[str]:
    dataset = metadata_of(table, "dataset")
    if dataset != file.stem:
        yield f"is the sample of {dataset!r}, by its name of {file.stem!r}"
    pixels = table.select(["image_id", "row", "column"])
    if pixels.group_by(pixels.column_names).aggregate([]).num_rows != pixels.num_rows:
        yield "holds a pixel twice"


def _pair_faults(file: Path, own: str, faults: _RowFaults, table: pa.Table) -> Iterator[str]:
    source, target = file.parent.name, file.stem
    if own == target:
        yield f"pairs source {source} with {target}, the dataset it was trained on"
    rows = table.to_pylist()
    for row in rows:
        if (row["source"], row["target"]) != (source, target):
            yield f"has a row of {row['source']} -> {row['target']}, by its name it is of {source} -> {target}"
    if not rows:
        yield "has no row"
    yield from faults(rows)


def _score_faults(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from _twice("metric", rows)
    for row in rows:
        if row["score"] is None or not math.isfinite(row["score"]):
            yield f"the score of {row['metric']} is {row['score']}, a finite number is expected"


def _performance_faults(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from _twice("seed", rows)
    for row in rows:
        for value in (row["miou"], *(one for one in row["class_iou"] or () if one is not None)):
            if value is None or not 0 <= value <= 1:
                yield f"seed {row['seed']} has mIoU or a class's IoU {value}, a fraction in [0, 1] is expected"


def _twice(column: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    for value, count in Counter(row[column] for row in rows).items():
        if count > 1:
            yield f"has {count} rows of {column} {value}"


def _problems_of_features(file: Path) -> Iterator[str]:
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            for group in range(opened.num_row_groups):
                opened.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        yield f"{file}: damaged feature file ({str(error).splitlines()[0]}); {_AGAIN}"
