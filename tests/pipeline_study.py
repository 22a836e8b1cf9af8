"""A study of four small networks on two targets whose features stay on a device, and a process that dies in it."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from other_nets import MEAN, STD, write_net

from seg_transfer.data.manifest import load_manifest
from seg_transfer.engines.here import run_items
from seg_transfer.metrics import METRICS, score_all
from seg_transfer.models.adapters.factory import FactoryEntry
from seg_transfer.stages import STAGES, scoring
from seg_transfer.stages.base import Item
from seg_transfer.stages.context import ScoringContext
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.study.definition import Sampling, Study
from seg_transfer.study.run import Run

TARGETS = ("day_street", "cells_dark")
NAMES = [
    name for name, metric in METRICS.items() if not metric.needs & {"scores", "source_images"} and not metric.extra
]


def study_run(folder: Path, world: Path, metrics: Sequence[str] = NAMES, **fields: Any) -> Run:
    """Write four networks of one architecture, and return a run of all eight pairs, none scored."""
    sources = []
    for seed in range(4):
        write_net(folder, "Pyramid", seed)
        weights = folder / f"{seed}.safetensors"
        shutil.move(folder / "Pyramid.safetensors", weights)
        own = {"factory": "nets:Pyramid", "factory_folder": folder, "classifier": "head", "weights": weights}
        sources.append(FactoryEntry(name=f"net{seed}", dataset="elsewhere", mean=MEAN, std=STD, **own))
    study = Study(
        name="pipeline",
        manifests=(world / "manifests",),
        sources=tuple(sources),
        targets=TARGETS,
        metrics=tuple(metrics),
        sampling=Sampling(pixels_per_image=60),
        **fields,
    )
    manifests = {name: load_manifest(world / "manifests" / f"{name}.yaml") for name in TARGETS}
    return Run(study, manifests, world, folder / "run")


@contextmanager
def on_device(n_threads: int = 3) -> Iterator[pytest.MonkeyPatch]:
    """Keep features in tensors, and allow so many threads, as on a machine with a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoringContext, "features_on_device", True)
        patch.setattr(torch, "get_num_threads", lambda: n_threads)
        yield patch


def pairs(run: Run) -> list[Item]:
    return STAGES["score"].items(run)


def score(run: Run, items: Sequence[Item], **settings: Any) -> None:
    """Score these pairs in this process."""
    run_items(STAGES["score"], run, items, ScoreSettings(device="cpu", **settings))


def scores(run: Run) -> dict[tuple[str, str, str], float]:
    """All stored scores; each file must be whole."""
    files = (run.folder / "scores").glob("*/*.parquet")
    tables = [pq.read_table(file, partitioning=None, page_checksum_verification=True) for file in files]
    return {(row["source"], row["target"], row["metric"]): row["score"] for one in tables for row in one.to_pylist()}


def killed_at(run: Run, n_scored: int) -> int:
    """Score a run in a process that kills itself when it scores a pair after so many; returns how it ended."""
    return subprocess.run([sys.executable, __file__, str(n_scored)], input=pickle.dumps(run)).returncode


def _die(n_scored: int) -> None:
    run, begun = pickle.load(sys.stdin.buffer), list[int]()

    def deadly(*words: Any) -> Any:
        begun.append(1)
        if len(begun) > n_scored:
            os.kill(os.getpid(), signal.SIGKILL)
        return score_all(*words)

    with on_device() as patch:
        patch.setattr(scoring, "score_all", deadly)
        score(run, pairs(run))


if __name__ == "__main__":
    _die(int(sys.argv[1]))
