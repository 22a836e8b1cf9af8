"""How much higher neighbors and probes score where they may use pixels of the image that they predict.

    python scripts/probe_leakage.py STUDY --data-root DATA --run-folder RUN

Pixels of one image resemble each other in features and labels, so that a classifier that has seen some of them knows
the others. For every pair whose source is there, `knn` and `ridge_probe` are computed twice for the same pixels: with
images held out, as the metrics are, and with every pixel as an image of its own. Prints the means over the sources of
every target, in percent; ``--out`` keeps a row per pair as a Parquet file.
"""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from seg_transfer.console import console_logging, plain_console
from seg_transfer.errors import CheckpointError
from seg_transfer.metrics import METRICS, score_all
from seg_transfer.models.entry import SourceEntry
from seg_transfer.observations import Observations
from seg_transfer.reports.tables import plain_table
from seg_transfer.stages.base import Item, pair_label
from seg_transfer.stages.context import ScoringContext, observe
from seg_transfer.stages.failures import for_each
from seg_transfer.study.run import open_run

CLASSIFIERS = ("knn", "ridge_probe")
SAME_IMAGE = "_same_image"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--run-folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    context = ScoringContext.for_run(open_run(options.study, options.data_root, options.run_folder), "auto")
    rows: list[dict[str, Any]] = []

    def add(item: Item) -> None:
        entry, target = context.run.study.source(item.source), context.target(item.target)
        scores = leakage(observe(context, entry, target), context.run.study.sampling.seed)
        rows.append({"source": item.source, "target": item.target, **scores})

    items = [Item(entry.name, target) for entry, target in context.run.pairs if _is_there(context, entry)]
    try:
        with threadpool_limits(options.threads):
            for_each(items, add, pair_label)
    finally:
        if rows:
            _show(pd.DataFrame(rows), options.out)


def leakage(observations: Observations, seed: int = 0) -> dict[str, float]:
    """Score a pair with images held out, and (``_same_image``) with all other pixels of the image in use.

    Args:
        observations: The pair's, with ``image_index``.
        seed: Seed of the subsample of knn.

    Returns:
        Name of a column -> balanced accuracy.
    """
    scores = {}
    for name in CLASSIFIERS:
        # Every pixel as an image of its own would be another subsample: it is drawn before.
        limit = METRICS[name].settings.get("max_observations", len(observations.labels))
        sample = replace(observations.subsample(int(limit), seed), image_embeddings=None)
        alone = replace(sample, image_index=np.arange(len(sample.labels)))
        for column, given in ((name, sample), (name + SAME_IMAGE, alone)):
            scores[column] = score_all(given, [name], standard_errors=False)[name].score
    return scores


def _is_there(context: ScoringContext, entry: SourceEntry) -> bool:
    with suppress(CheckpointError):
        return bool(context.source_key(entry))
    return False


def _show(pairs: pd.DataFrame, out: Path | None) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        pairs.to_parquet(out, index=False)
    groups = [*pairs.groupby("target", sort=False), ("all pairs", pairs)]
    body = [[str(target), str(len(rows)), *_cells(rows)] for target, rows in groups]
    ways = ("held-out", "leaking", "gain")
    columns = ["target", "pairs", *(f"{name.removesuffix('_probe')} {way}" for name in CLASSIFIERS for way in ways)]
    plain_console().print(plain_table("Mean recall of the classes, in percent", columns, body, "target"))


def _cells(rows: pd.DataFrame) -> list[str]:
    cells = []
    for name in CLASSIFIERS:
        held_out, leaking = 100 * rows[name].mean(), 100 * rows[name + SAME_IMAGE].mean()
        cells += [f"{held_out:.1f}", f"{leaking:.1f}", f"{leaking - held_out:+.1f}"]
    return cells


if __name__ == "__main__":
    with console_logging():
        main()
