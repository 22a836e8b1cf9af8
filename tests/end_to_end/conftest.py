"""One small study: two datasets of streets and one of cells, networks of 60 channels, trainings of four steps."""

import contextlib
import io
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from explain_study import ONE, TARGET, keep_weights
from small_study import DOMAINS
from stand_in_metrics import metrics_with_stand_ins

import seg_transfer.metrics
from seg_transfer import progress
from seg_transfer.cli import main
from seg_transfer.cli.app import EXIT_CODES
from seg_transfer.data.record import Record
from seg_transfer.demo.world import build_world
from seg_transfer.features import images
from seg_transfer.observations import Observations
from seg_transfer.resources import shipped
from seg_transfer.stages import score_keys, scoring
from seg_transfer.store import results

SCHEDULE = {
    "steps": 4,
    "batch_size": 2,
    "learning_rate": 0.05,
    "scale_range": [0.75, 1.5],
    "checkpoint_every": 1,
}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def reason(self, code: int) -> str:
        """The one line on stderr of a command that ended with this documented code; a stage that goes on sums up."""
        assert self.code == code, self.err
        assert str(code) in EXIT_CODES.split()
        line, *summary = self.err.splitlines()
        assert line.startswith("seg-transfer: ")
        assert len(summary) <= 1, self.err
        assert all(one.startswith("seg-transfer: failed: ") for one in summary)
        return line.removeprefix("seg-transfer: ")


@contextlib.contextmanager
def captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """What is printed inside the block, without estimates of the remaining time, which only a slow machine prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "_SECONDS_BETWEEN_LINES", math.inf)
        yield out, err


def call(*words: object) -> Ended:
    """The command line in this process."""
    with captured() as (out, err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Workspace:
    """A world, a study file and a run folder; a stage called by its name works on them."""

    world: Path
    study: Path
    run: Path

    def call(self, stage: str, *options: object) -> Ended:
        return call(stage, *self.words(), *options)

    def place(self) -> list[str]:
        """The options that every command on a study has."""
        return [str(self.study), "--data-root", str(self.world), "--run-folder", str(self.run)]

    def words(self) -> list[str]:
        """Those of a stage, in one process."""
        return [*self.place(), "--threads", "1", "--engine", "here"]

    def done(self, stage: str, *options: object) -> str:
        """What a stage prints that must succeed in silence on stderr."""
        ended = self.call(stage, *options)
        assert (ended.code, ended.err) == (0, "")
        return ended.out

    def study_fields(self) -> dict[str, Any]:
        """The study as its file has it."""
        return dict(yaml.safe_load(self.study.read_text()))

    def change(self, **fields: Any) -> None:
        """Set fields of the study; None removes one."""
        content = self.study_fields() | fields
        self.study.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """All rows of the run folder's scores or performance."""
        files = sorted((self.run / kind).glob("*/*.parquet"))
        return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]

    def state(self, kind: str = "") -> dict[str, tuple[int, bytes]]:
        """Time of writing and content of every result file, but for the resolved study, which every stage rewrites,
        and for the hashes of files that were noted on the way.
        """
        files = [path for path in (self.run / kind).rglob("*") if path.is_file() and path.name != "study.yaml"]
        files = [path for path in files if not path.is_relative_to(self.run / "keys")]
        return {str(path.relative_to(self.run)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def write_study(file: Path, fields: Mapping[str, Any]) -> None:
    schedules = shipped("configs/schedules")
    study = {
        "name": "tiny",
        "manifests": ["world/manifests"],
        "sources": list(DOMAINS),
        "targets": list(DOMAINS),
        "model": str(shipped("configs/models/hrnetv2_tiny.py")),
        "source_training": {"schedule": str(schedules / "source_training.yaml"), "changes": SCHEDULE},
        "fine_tuning": {"schedule": str(schedules / "fine_tuning.yaml"), "changes": SCHEDULE},
        "metrics": ["gbc", "leep"],
        "sampling": {"pixels_per_image": 200},
    }
    file.write_text(yaml.safe_dump(study | fields))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study whose sources are trained; never written to by a test."""
    folder = tmp_path_factory.mktemp("trained")
    build_world(folder / "world", n_train=4, n_source_train=6, n_eval=2, size=(48, 64))
    write_study(folder / "study.yaml", {})
    workspace = Workspace(folder / "world", folder / "study.yaml", folder / "run")
    workspace.done("train-sources")
    return workspace


@pytest.fixture(scope="session")
def finished(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same study with every stage done; never written to by a test."""
    workspace = copied(trained, tmp_path_factory.mktemp("finished"))
    workspace.done("score-pairs")
    workspace.done("finetune-pairs")
    return workspace


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Workspace], Workspace]:
    """Copies a workspace into the test's own folder, where it may be changed."""
    return lambda workspace: copied(workspace, tmp_path)


def copied(workspace: Workspace, folder: Path) -> Workspace:
    for path in (workspace.world, workspace.run):
        shutil.copytree(path, folder / path.name)
    shutil.copy2(workspace.study, folder)
    return Workspace(folder / workspace.world.name, folder / workspace.study.name, folder / workspace.run.name)


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    """Sources are trained, and two pairs are to be done: day_street on dusk_street and on cells_dark."""
    workspace = copied(trained, tmp_path)
    workspace.change(sources=["day_street"], targets=["dusk_street", "cells_dark"])
    return workspace


@pytest.fixture
def bank(trained: Workspace, tmp_path: Path) -> Workspace:
    """Three trained sources in a folder, and a world with the dataset of each."""
    return copied(trained, tmp_path)


@pytest.fixture
def invoke() -> Callable[..., Ended]:
    """The command line in this process."""
    return call


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Observations]:
    """What the metric own saw; the metrics are those of `metrics_with_stand_ins`."""
    observed: list[Observations] = []
    metrics = metrics_with_stand_ins(observed)
    for module in (seg_transfer.metrics, score_keys, scoring, results):
        monkeypatch.setattr(module, "METRICS", metrics)
    return observed


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image was decoded, by its path in the world."""
    times: Counter[str] = Counter()
    original = images.read_image

    def counted(record: Record) -> Any:
        times["/".join(record.image.parts[-4:])] += 1
        return original(record)

    monkeypatch.setattr(images, "read_image", counted)
    return times


@pytest.fixture(scope="session")
def mixed(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """day_street, trained by the study, beside three factories and a SegFormer; all are scored; only read."""
    from mixed_sources import ENTRIES, TARGETS, write_sources

    folder = tmp_path_factory.mktemp("mixed")
    workspace = copied(trained, folder)
    write_sources(folder)
    workspace.change(sources=["day_street", *ENTRIES], targets=TARGETS, metrics=["gbc", "leep", "ids"])
    ended = workspace.call("score-pairs")
    assert ended.code == 0, ended.err
    (folder / "said.txt").write_text(ended.out)
    (folder / "warned.txt").write_text(ended.err)
    return workspace


@pytest.fixture
def own_copy(mixed: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the study of `mixed` and its files, which may be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(mixed.study.parent, folder)
    return Workspace(folder / "world", folder / "study.yaml", folder / "run")


@pytest.fixture(scope="session")
def tuned(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished study, with the weights of one fine-tuning and both sources explained on one target; only read."""
    workspace = copied(finished, tmp_path_factory.mktemp("tuned"))
    keep_weights(workspace)
    (workspace.run / "performance" / "day_street" / f"{TARGET}.parquet").unlink()
    workspace.done("finetune-pairs", *ONE)
    call("explain", *workspace.place(), "--threads", "1", "--target", TARGET)
    return workspace


@pytest.fixture
def run_explain() -> Callable[..., str]:
    """`explain` on a workspace, which must succeed in silence on stderr."""

    def done(workspace: Workspace, *options: object) -> str:
        ended = call("explain", *workspace.place(), "--threads", "1", *options)
        assert (ended.code, ended.err) == (0, "")
        return ended.out

    return done
