from pathlib import Path

import pytest
import yaml
from leftovers import gone_identity, temporary_of

from seg_transfer.demo.world import build_world
from seg_transfer.errors import CheckpointError, ConfigError, DataError, IncompleteError
from seg_transfer.resources import shipped
from seg_transfer.stages.items import wanted_trials
from seg_transfer.study.run import chosen, for_each, open_run, pair_label, prepare_folder, wanted_pairs

# Goes on whatever happens


class Work:
    """Fails for some items with the error that is given for them, and remembers all it was asked for."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.asked: list[str] = []

    def __call__(self, item: str) -> None:
        self.asked.append(item)
        if item in self.errors:
            raise self.errors[item]


def failure(work: Work, items: str = "abcd") -> tuple[IncompleteError, list[str]]:
    said: list[str] = []
    with pytest.raises(IncompleteError) as raised:
        for_each(items, work, lambda item: f"item {item}", said.append)
    return raised.value, said


def test_all_items_are_done_in_order_and_nothing_is_said():
    work, said = Work(), []
    for_each("bca", work, str, said.append)
    assert (work.asked, said) == (["b", "c", "a"], [])


def test_a_failure_stops_no_other_item():
    work = Work(b=DataError("b.png: torn"))
    error, said = failure(work)
    assert work.asked == ["a", "b", "c", "d"]
    assert said == ["item b: b.png: torn"]
    assert str(error).startswith("failed: item b; all others are finished and kept")
    assert "run the same command again after mending" in str(error)


def test_the_same_reason_is_said_once_and_every_failed_item_is_listed():
    work = Work(a=DataError("x.png: torn"), b=DataError("y.png: torn"), d=DataError("x.png: torn"))
    error, said = failure(work)
    assert said == ["item a: x.png: torn", "item b: y.png: torn"]
    assert str(error).startswith("failed: item a, item b, item d; ")


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ({"a": DataError("x")}, 4),
        ({"a": DataError("x"), "b": DataError("y")}, 4),
        ({"a": CheckpointError("x")}, 5),
        ({"a": DataError("x"), "b": CheckpointError("y")}, 8),
    ],
)
def test_the_exit_code_is_that_of_the_reasons_where_they_agree(errors, code):
    error, _ = failure(Work(**errors))
    assert error.exit_code == code


def test_whatever_an_item_raises_is_its_own_failure():
    work = Work(b=ZeroDivisionError())
    with pytest.raises(IncompleteError) as caught:
        for_each("abc", work, str)
    assert (work.asked, caught.value.exit_code) == (["a", "b", "c"], 10)


def test_a_fault_of_the_machine_is_not_swallowed():
    work = Work(b=OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        for_each("abc", work, str)
    assert work.asked == ["a", "b"]


def test_reasons_go_to_stderr(capsys):
    with pytest.raises(IncompleteError):
        for_each("a", Work(a=DataError("x.png: torn")), str)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "seg-transfer: a: x.png: torn\n")


# Choosing


def test_names_are_chosen_in_the_order_of_the_study():
    assert chosen(["c", "a", "b"], ["b", "c"], "target") == ["c", "b"]
    assert chosen(["c", "a", "b"], [], "target") == ["c", "a", "b"]


def test_a_name_that_the_study_lacks_is_refused():
    with pytest.raises(ConfigError, match=r"^--target z: the study has no such target; it has c, a$"):
        chosen(["c", "a"], ["a", "z"], "target")


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
    run = open_run(study, tmp_path / "world", tmp_path / "run")
    assert [pair_label(pair) for pair in run.pairs] == [
        "day_street -> cells_dark",
        "web -> cells_dark",
        "cells_dark -> day_street",
        "web -> day_street",
    ]
    assert [pair_label(pair) for pair in wanted_pairs(run, ["web"], ["day_street"])] == ["web -> day_street"]
    with pytest.raises(ConfigError, match="make no pair"):
        wanted_pairs(run, ["day_street"], ["day_street"])


def test_every_pair_is_fine_tuned_once_before_any_is_fine_tuned_twice(study, tmp_path):
    fields = yaml.safe_load(study.read_text())
    schedule = str(shipped("configs/schedules/fine_tuning.yaml"))
    study.write_text(yaml.safe_dump(fields | {"fine_tuning": {"schedule": schedule, "seeds": [4, 2]}}))
    run = open_run(study, tmp_path / "world", tmp_path / "run")
    assert list(map(str, wanted_trials(run, ["scratch", "web"], ["day_street", "cells_dark"]))) == [
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
