"""A job as a command line for another process: what it selects and how it works, and nothing that is the default."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from seg_transfer.engines.job import Job
from seg_transfer.stages import STAGES
from seg_transfer.stages.base import Selection
from seg_transfer.stages.score import ScoreSettings
from seg_transfer.study.definition import Study
from seg_transfer.study.run import Run


@pytest.fixture
def job(tmp_path: Path) -> Job:
    study = Study(name="x", manifests=(tmp_path,), sources=({"name": "a", "dataset": "a"},), targets=("b",))
    (tmp_path / "study.yaml").touch()
    run = Run(study, {}, tmp_path / "data", tmp_path / "run")
    return Job(STAGES["score"], run, tmp_path / "study.yaml", settings=ScoreSettings())


def options(job: Job) -> list[str]:
    """What follows the study, its data and its run folder."""
    command, study, *rest = job.command_line()
    location = ["--data-root", str(job.run.data_root), "--run-folder", str(job.run.folder)]
    assert (command, study, rest[:4]) == ("score-pairs", str(job.study_file), location)
    return rest[4:]


def test_paths_are_as_given_or_resolved_for_other_working_directories(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    given = replace(
        job, study_file=Path("study.yaml"), run=replace(job.run, data_root=Path("link"), folder=Path("run"))
    )
    location = ["study.yaml", "--data-root", "link", "--run-folder", "run"]
    assert given.command_line() == ["score-pairs", *location]
    assert given.resolved().command_line() == job.command_line()


def test_a_shipped_study_is_found_from_other_working_directories(job):
    named = replace(job, study_file=Path("real7"))
    assert named.command_line()[1] == "real7"
    assert Path(named.resolved().command_line()[1]).name == "real7.yaml"
    assert Path(named.resolved().command_line()[1]).is_file()


def test_defaults_are_left_out(job):
    assert options(job) == []


def test_selection_threads_and_settings_are_given(job):
    changed = replace(
        job,
        selection=Selection(("a", "c"), ("b",), (1, 3)),
        settings=ScoreSettings(device="cuda:1", batch_size=4),
        threads=2,
    )
    assert " ".join(options(changed)) == (
        "--source a --source c --target b --shard 1/3 --threads 2 --device cuda:1 --batch-size 4"
    )


def test_a_setting_that_is_not_its_default_is_given_even_where_it_counts_as_false(job):
    @dataclass(frozen=True)
    class Settings:
        n_readers: int = 3
        checked: bool = True
        drawn: bool = False

    assert options(replace(job, settings=Settings(0, False, True))) == ["--n-readers", "0", "--no-checked", "--drawn"]
