"""Shipped files are found by their names, behind the user's own files, and a wrong name is answered with near ones."""

from pathlib import Path

import pytest
import yaml

from seg_transfer.data.manifest import load_manifest
from seg_transfer.engines.job import Job
from seg_transfer.errors import ConfigError
from seg_transfer.resources import Kind, find, resolve_name, shipped, shipped_files
from seg_transfer.selection.target import target_manifest
from seg_transfer.stages import STAGES
from seg_transfer.study.definition import load_study
from seg_transfer.study.run import open_run


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: no checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "name", "relative"),
    [
        ("study", "paper_272", "configs/studies/paper_272.yaml"),
        ("manifest", "camvid", "data_manifests/camvid.yaml"),
        ("manifest", "small/camvid", "data_manifests/small/camvid.yaml"),
        ("model", "hrnetv2_w48", "configs/models/hrnetv2_w48.py"),
        ("schedule", "fine_tuning", "configs/schedules/fine_tuning.yaml"),
    ],
)
def test_a_name_means_the_shipped_file(kind: Kind, name: str, relative: str) -> None:
    assert find(kind, name) == find(kind, Path(name)) == shipped(relative)


def test_every_shipped_file_has_a_name_and_nothing_else_has() -> None:
    assert len(shipped_files("manifest")) == 17 + 11
    for kind, folder in {"study": "studies", "model": "models", "schedule": "schedules"}.items():
        files = {file for file in shipped(f"configs/{folder}").iterdir() if file.suffix in (".py", ".yaml")}
        assert set(shipped_files(kind).values()) == files


def test_an_own_file_wins_and_a_folder_does_not(empty_folder: Path) -> None:
    (empty_folder / "camvid").mkdir()
    assert find("manifest", "camvid") == shipped("data_manifests/camvid.yaml")
    (empty_folder / "real7").write_text("own")
    assert find("study", "real7") == Path("real7")


@pytest.mark.parametrize(
    ("kind", "name", "reported"),
    [
        ("study", "paper_271", "paper_271: no such file, and no shipped study of that name; did you mean paper_272?"),
        ("study", "configs/studies/real7.yaml", "did you mean real7 or real11?"),
        ("study", "/nowhere/mine.yaml", "correct the path of the study"),
        (
            "study",
            "nothing",
            "one of mixed, mixed_segformer, mixed_unet, paper_272, real11, real11_100, real11_20, real7",
        ),
        ("manifest", "camvit", "did you mean camvid or small/camvid?"),
        ("manifest", "nyuv2", "did you mean small/nyuv2?"),
        ("manifest", "small/cityscapes", "did you mean cityscapes?"),
        ("manifest", "published/real7/study", "correct the path of the manifest"),
    ],
)
def test_a_wrong_name_is_one_line_with_near_names(kind: Kind, name: str, reported: str) -> None:
    with pytest.raises(ConfigError) as error:
        find(kind, name)
    assert str(error.value).startswith(f"{name}: no such file")
    assert str(error.value).endswith(reported)


def test_studies_and_manifests_are_loaded_by_name() -> None:
    study, manifests = load_study(Path("paper_272"))
    assert (study.name, len(manifests)) == ("paper_272", 17)
    assert len(load_manifest(Path("camvid")).classes) == 31
    assert len(load_manifest(Path("small/camvid")).classes) == 11
    assert target_manifest("small/camvid", Path())[0].crop_size == (144, 144)


def test_a_process_in_another_folder_is_given_the_file_and_not_the_name() -> None:
    job = Job(STAGES["score"], open_run(Path("real7"), Path()), Path("real7")).resolved()
    assert job.command_line()[1] == str(shipped("configs/studies/real7.yaml").resolve())


def test_a_study_of_a_user_names_shipped_files(empty_folder: Path) -> None:
    named = {
        "name": "mine",
        "manifests": ["small/camvid", "idd"],
        "sources": ["idd"],
        "targets": ["camvid"],
        "model": "hrnetv2_tiny",
        "source_training": {"schedule": "source_training", "changes": {"steps": 7}},
        "fine_tuning": {"schedule": "fine_tuning"},
    }
    file = empty_folder / "study.yaml"
    file.write_text(yaml.safe_dump(named))
    study, manifests = load_study(file)
    assert {name: len(manifest.classes) for name, manifest in manifests.items()} == {"camvid": 11, "idd": 34}
    assert study.model == shipped("configs/models/hrnetv2_tiny.py")
    assert study.fine_tuning is not None
    assert study.fine_tuning.schedule == shipped("configs/schedules/fine_tuning.yaml")
    assert study.code() == []  # what is shipped is trusted, also when it is named

    (empty_folder / "hrnetv2_tiny").write_text("own")
    assert load_study(file)[0].model == empty_folder / "hrnetv2_tiny"


def test_a_folder_of_manifests_beside_a_study_is_what_it_was(empty_folder: Path) -> None:
    folder = empty_folder / "camvid"
    folder.mkdir()
    (folder / "own.yaml").write_text(shipped("data_manifests/small/camvid.yaml").read_text())
    sources = [{"name": "web", "dataset": "web", "transformers": "web"}]
    fields = {"name": "mine", "manifests": ["camvid"], "sources": sources, "targets": ["camvid"]}
    (empty_folder / "study.yaml").write_text(yaml.safe_dump(fields))
    assert len(load_study(empty_folder / "study.yaml")[1]["camvid"].classes) == 11


def test_a_path_that_is_no_name_stays_as_it_is() -> None:
    assert resolve_name("model", "models/own.py", Path("/study")) == Path("/study/models/own.py")
