from pathlib import Path

import pytest
import yaml
from leftovers import gone_identity, temporary_of

from seg_transfer.demo.world import build_world
from seg_transfer.errors import ConfigError
from seg_transfer.resources import shipped
from seg_transfer.stages import STAGES
from seg_transfer.study.run import open_run, prepare_folder, select_names

# Selecting


def test_names_are_selected_in_the_order_of_the_study():
    assert select_names(["c", "a", "b"], ["b", "c"], "target") == ["c", "b"]
    assert select_names(["c", "a", "b"], [], "target") == ["c", "a", "b"]


def test_a_name_that_the_study_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"^--target z: not in the study; choose among c, a$"):
        select_names(["c", "a"], ["a", "z"], "target")


# Run folders


@pytest.fixture
def study(tmp_path: Path) -> Path:
    build_world(tmp_path / "world", n_train=1, n_source_train=1, n_eval=1, size=(48, 64))
    web = {"name": "web", "dataset": "photographs", "config": "source.json"}
    content = {
        "name": "tiny",
        "manifests": ["world/manifests"],
        "sources": ["day_street", "cells_dark", web],
        "targets": ["cells_dark", "day_street"],
        "low_shot": 3,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "study.yaml"


def test_pairs_go_target_by_target_and_never_join_a_source_with_its_own_dataset(study, tmp_path):
    run, stage = open_run(study, tmp_path / "world", tmp_path / "run"), STAGES["score"]
    assert [stage.label(item) for item in stage.items(run)] == [
        "day_street -> cells_dark",
        "web -> cells_dark",
        "cells_dark -> day_street",
        "web -> day_street",
    ]
    assert list(map(stage.label, stage.items(run, ["web"], ["day_street"]))) == ["web -> day_street"]
    with pytest.raises(ConfigError, match="form no pair"):
        stage.items(run, ["day_street"], ["day_street"])


def test_every_pair_is_fine_tuned_once_before_any_is_fine_tuned_twice(study, tmp_path):
    fields = yaml.safe_load(study.read_text())
    schedule = str(shipped("configs/schedules/fine_tuning.yaml"))
    study.write_text(yaml.safe_dump(fields | {"fine_tuning": {"schedule": schedule, "seeds": [4, 2]}}))
    run, stage = open_run(study, tmp_path / "world", tmp_path / "run"), STAGES["finetune"]
    assert list(map(stage.label, stage.items(run, ["scratch", "web"], ["day_street", "cells_dark"]))) == [
        "scratch -> cells_dark, seed 4",
        "web -> cells_dark, seed 4",
        "scratch -> day_street, seed 4",
        "web -> day_street, seed 4",
        "scratch -> cells_dark, seed 2",
        "web -> cells_dark, seed 2",
        "scratch -> day_street, seed 2",
        "web -> day_street, seed 2",
    ]


def test_the_run_folder_is_named_after_the_study_below_the_working_directory(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = open_run(study, tmp_path / "world")
    assert run.folder == Path("runs/tiny")
    assert not (tmp_path / "runs").exists()
    prepare_folder(run)
    assert (tmp_path / "runs/tiny/study.yaml").is_file()


def test_the_resolved_study_is_stored_with_the_manifests_it_names_and_nothing_else(study, tmp_path):
    prepare_folder(open_run(study, tmp_path / "world", tmp_path / "run"))
    stored = yaml.safe_load((tmp_path / "run/study.yaml").read_text())
    assert set(stored["manifests"]) == {"cells_dark", "day_street"}
    assert stored["manifests"]["cells_dark"]["low_shot"]["limit"] == 3
    assert stored["data_root"] == str(tmp_path / "world")
    assert stored["study"]["manifests"] == [str(tmp_path / "world/manifests")]
    assert stored["study"]["sources"][0] == {"name": "day_street", "dataset": "day_street"}


def test_half_written_files_of_killed_processes_are_removed_and_nothing_else(study, tmp_path):
    scores = tmp_path / "run/scores/web"
    scores.mkdir(parents=True)
    temporary_of(gone_identity(), scores / "cells_dark.parquet").touch()
    (scores / "cells_dark.parquet").touch()
    (tmp_path / ".outside.part").touch()
    prepare_folder(open_run(study, tmp_path / "world", tmp_path / "run"))
    assert [path.name for path in scores.iterdir()] == ["cells_dark.parquet"]
    assert (tmp_path / ".outside.part").exists()
