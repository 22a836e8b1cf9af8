"""The way of one kind of model through the product: scored, fine-tuned, interrupted, kept."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from kinds.kind import Kind
from kinds.targets import IDS, TUNED

from seg_transfer.cli import main
from seg_transfer.models.entry import SourceEntry
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations
from seg_transfer.stages import finetuning, scoring
from seg_transfer.stages.base import Item
from seg_transfer.stages.finetune import tuning_schedule
from seg_transfer.stages.starts import Start, start_of
from seg_transfer.study.definition import load_study
from seg_transfer.study.run import Run
from seg_transfer.training.schedule import Schedule

SOURCE = "net"
METRICS = ["gbc", "leep", "nleep"]
STEPS, INTERRUPTED_AT = 12, 6
SCHEDULE = {
    "steps": STEPS,
    "batch_size": 2,
    "learning_rate": 0.01,
    "optimizer": "adamw",
    "head_learning_rate_factor": 30.0,
    "crop_size": [48, 48],
    "scale_range": [0.8, 1.25],
    "checkpoint_every": 4,
    "mixed_precision": False,
}


def call(*words: object) -> int:
    """The exit code of the command line in this process, whose output is dropped."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = int(ended.value.code or 0)
    assert code in (0, 130), said.getvalue()
    return code


@dataclass(repr=False)
class Way:
    """A study of one source, whose stages are done when their results are first asked for.

    Attributes:
        kind: The kind of model.
        world: The folder of the targets.
        folder: Its own folder, which is empty at first.
    """

    kind: Kind
    world: Path
    folder: Path
    observed: list[Observations] = field(default_factory=list)

    @cached_property
    def saved(self) -> tuple[dict[str, Any], Any]:
        """The fields of the entry, and the network as its library has it."""
        (self.folder / "model").mkdir()
        return self.kind.save(self.folder / "model")

    @cached_property
    def study(self) -> Path:
        fields = {name: _plain(value) for name, value in self.saved[0].items()}
        rate = {} if self.kind.learning_rate is None else {"learning_rate": self.kind.learning_rate}
        content = {
            "name": "kinds",
            "manifests": [str(self.world / "manifests")],
            "sources": [{"name": SOURCE, "dataset": "elsewhere", **fields, **rate}],
            "targets": list(IDS),
            "metrics": METRICS,
            "sampling": {"pixels_per_image": 150},
            "fine_tuning": {"schedule": "fine_tuning", "changes": SCHEDULE, "scratch": False, "keep_weights": True},
        }
        file = self.folder / "study.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    @cached_property
    def run(self) -> Run:
        return Run(*load_study(self.study), self.world, self.folder / "run")

    @property
    def entry(self) -> SourceEntry:
        return self.run.study.source(SOURCE)

    @cached_property
    def source(self) -> SourceModel:
        return self.entry.load()

    @property
    def schedule(self) -> Schedule:
        return tuning_schedule(self.run, Item(SOURCE, TUNED, 0))

    def start(self) -> Start:
        """What the fine-tuning starts from."""
        return start_of(self.run, Item(SOURCE, TUNED, 0))

    def stage(self, command: str, run_folder: str, *options: object) -> int:
        place = [self.study, "--data-root", self.world, "--run-folder", self.folder / run_folder]
        return call(command, *place, "--threads", "1", "--engine", "here", *options)

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """Target -> metric -> score; what the metrics saw is kept in `observed`, in the order of the targets."""
        original = scoring.score_all
        with pytest.MonkeyPatch.context() as patch:

            def spy(observations: Observations, metrics: Any) -> Any:
                self.observed.append(observations)
                return original(observations, metrics)

            patch.setattr(scoring, "score_all", spy)
            assert self.stage("score-pairs", "run") == 0
        files = {target: self.folder / "run" / "scores" / SOURCE / f"{target}.parquet" for target in IDS}
        rows = {target: pq.read_table(file, partitioning=None).to_pylist() for target, file in files.items()}
        return {target: {row["metric"]: row["score"] for row in rows[target]} for target in IDS}

    @cached_property
    def kept(self) -> Path:
        """The folder of the fine-tuned network."""
        assert self.stage("finetune-pairs", "run", "--target", TUNED) == 0
        return self.folder / "run" / "fine_tuned" / SOURCE / TUNED / "0"

    @cached_property
    def kept_after_interruption(self) -> Path:
        """The folder of the network whose fine-tuning was interrupted, and continued by the same command."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetuning, "progress_of", _interrupting)
            assert self.stage("finetune-pairs", "again", "--target", TUNED) == 130
        assert self.stage("finetune-pairs", "again", "--target", TUNED) == 0
        return self.folder / "again" / "fine_tuned" / SOURCE / TUNED / "0"


@contextlib.contextmanager
def _interrupting(_title: str) -> Iterator[Any]:
    """Progress that ends as Ctrl-C does."""

    def tick(done: int, _steps: int) -> None:
        if done == INTERRUPTED_AT:
            raise KeyboardInterrupt

    yield tick


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
