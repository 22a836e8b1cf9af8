"""Sources from a YAML bank, a folder, one file, a text or a mapping."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from source_cards import source_card

from seg_transfer.errors import CheckpointError, ConfigError
from seg_transfer.models.adapters.transformers import TransformersEntry
from seg_transfer.store.source_card import FILE_NAME, write_source_card
from seg_transfer.study.bank import read_sources

HUB = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}


def write_card(folder: Path, dataset: str) -> None:
    """A source that was trained by a study; its weights are not looked into here."""
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"w")
    write_source_card(source_card(folder.name, dataset=dataset), folder)


def write_hub(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    (folder / "preprocessor_config.json").write_text(json.dumps(HUB))
    (folder / "model.safetensors").write_bytes(b"w")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """zoo/{b_own, a_hub} are sources, zoo/notes is none."""
    write_card(tmp_path / "zoo/b_own", "cityscapes")
    write_hub(tmp_path / "zoo/a_hub")
    (tmp_path / "zoo/notes").mkdir()
    (tmp_path / "zoo/README").touch()
    return tmp_path


def bank(file: Path, *entries: Any, **more: Any) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({"sources": list(entries), **more}))
    return file


def refusal(*where: Any, kind: type[Exception] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        read_sources(*where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_yaml_bank_names_entries_relative_to_itself(folder, monkeypatch):
    file = bank(
        folder / "banks/mine.yaml",
        {"name": "sf", "transformers": "../zoo/a_hub"},
        {"name": "own", "config": f"../zoo/b_own/{FILE_NAME}"},
        {"name": "other", "dataset": "ade20k", "config": f"../zoo/b_own/{FILE_NAME}"},
        {"name": "net", "dataset": "x", "factory": "nets:build", "classifier": "head", "weights": "/w.pth"}
        | {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]},
    )
    monkeypatch.chdir(folder / "banks")
    for where in (file, str(file), "mine.yaml"):
        entries, skipped = read_sources(where)
        assert skipped == []
        assert [(one.name, one.dataset, one.kind) for one in entries] == [
            ("sf", "sf", "transformers"),
            ("own", "cityscapes", "mmseg"),
            ("other", "ade20k", "mmseg"),
            ("net", "x", "factory"),
        ]
        assert entries[0].transformers == folder / "zoo/a_hub"
        assert entries[3].factory_folder == folder / "banks"
        assert entries[3].weights == Path("/w.pth")


def test_a_folder_holds_sources_of_its_sub_folders_names(folder):
    entries, skipped = read_sources(folder / "zoo")
    assert [(one.name, one.dataset, one.kind) for one in entries] == [
        ("a_hub", "a_hub", "transformers"),
        ("b_own", "cityscapes", "mmseg"),
    ]
    assert entries[1].config == folder / "zoo/b_own" / FILE_NAME
    assert skipped == []


@pytest.mark.parametrize("where", ["zoo/b_own", f"zoo/b_own/{FILE_NAME}", "zoo/a_hub"])
def test_one_folder_or_card_is_one_source(folder, monkeypatch, where):
    monkeypatch.chdir(folder)
    ((entry,), skipped) = read_sources(where)
    assert entry.name == where.split("/")[1]
    assert skipped == []
    Path(getattr(entry, entry.marker)).relative_to(folder)


def test_the_working_directory_as_a_source_has_its_own_name(folder, monkeypatch):
    monkeypatch.chdir(folder / "zoo/b_own")
    assert [one.name for one in read_sources(".")[0]] == ["b_own"]
    assert [one.name for one in read_sources(FILE_NAME)[0]] == ["b_own"]


def test_a_config_and_its_weights(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ((entry,), _) = read_sources("configs/segformer.py:weights/city.pth")
    assert (entry.name, entry.dataset, entry.kind) == ("city", "city", "mmseg")
    assert (entry.config, entry.checkpoint) == (folder / "configs/segformer.py", folder / "weights/city.pth")
    ((entry,), _) = read_sources("configs/segformer.yaml:weights/city.pth")
    assert entry.config == folder / "configs/segformer.yaml"


def test_entries_in_python(folder, monkeypatch):
    monkeypatch.chdir(folder)
    fields = {"name": "sf", "transformers": "zoo/a_hub"}
    entries, _ = read_sources(fields, TransformersEntry(name="b", dataset="d", transformers=Path("zoo/a_hub")))
    assert [(one.name, one.dataset, one.transformers) for one in entries] == [
        ("sf", "sf", folder / "zoo/a_hub"),
        ("b", "d", folder / "zoo/a_hub"),
    ]
    assert fields == {"name": "sf", "transformers": "zoo/a_hub"}


def test_several_locations_are_one_bank(folder):
    entries, _ = read_sources(folder / "zoo/b_own", {"name": "c", "config": "c.json", "checkpoint": "w.pth"})
    assert [one.name for one in entries] == ["b_own", "c"]


def harm_card(folder: Path) -> None:
    (folder / "zoo/b_own" / FILE_NAME).write_text('{"source": 3}')


def harm_weights(folder: Path) -> None:
    (folder / "zoo/b_own/weights.safetensors").unlink()


def harm_name(folder: Path) -> None:
    (folder / "zoo/b_own").rename(folder / "zoo/b own")


@pytest.mark.parametrize(
    ("harm", "excerpt"),
    [
        (harm_card, "not a readable source card"),
        (harm_weights, "no such checkpoint file"),
        (harm_name, "name: 'b own'"),
    ],
)
def test_a_member_that_cannot_be_used_stops_no_other(folder, harm, excerpt):
    harm(folder)
    entries, skipped = read_sources(folder / "zoo")
    assert [one.name for one in entries] == ["a_hub"]
    ((name, reason),) = skipped
    assert name in ("b_own", "b own")
    assert excerpt in reason
    assert "\n" not in reason


def test_where_no_member_can_be_used_the_reasons_are_named(folder):
    harm_card(folder)
    (folder / "zoo/a_hub/model.safetensors").unlink()
    line = refusal(folder / "zoo")
    assert line.startswith("no source can be used (a_hub: ")
    assert "; b_own: " in line


def test_a_named_card_that_is_damaged_is_an_error(folder):
    harm_card(folder)
    assert "not a readable source card" in refusal(folder / "zoo/b_own" / FILE_NAME, kind=CheckpointError)


MMSEG = {"config": "c.json", "checkpoint": "w.pth"}


@pytest.mark.parametrize(
    ("entries", "excerpt"),
    [
        (
            [{"name": "a", **MMSEG}, {"name": "a", **MMSEG}],
            "source 'a' appears twice; give every source a different name",
        ),
        ([], "sources: []: "),
        ([{"name": "a", **MMSEG, "unknown": 1}], "sources.0: unknown: 1: unknown field; remove it or correct its"),
        (
            [{"name": "a", **MMSEG}, {"name": "b", "timm": "hrnet_w18"}],
            "sources.1: source 'b': field weights is missing",
        ),
        ([{"name": "a"}], "sources.0: source 'a' has none of config, "),
        ([MMSEG], "sources.0: name is missing; add it"),
        (["camvid"], "sources.0: 'camvid': "),
        ([{"name": "scratch", **MMSEG}], "'scratch' is reserved for the control; choose another name"),
        ([{"name": "../a", **MMSEG}], "sources.0: name: '../a': "),
    ],
)
def test_a_broken_rule_of_a_bank_is_named(folder, entries, excerpt):
    assert excerpt in refusal(bank(folder / "bank.yaml", *entries))


def test_errors_of_a_bank_name_its_file(folder):
    file = bank(folder / "bank.yaml", {"name": "a", **MMSEG, "unknown": 1})
    assert refusal(file).startswith(f"{file}: sources.0: ")
    assert refusal(bank(folder / "bank.yaml", {"name": "a", **MMSEG}, targets=["b"])).startswith(f"{file}: targets: ")
    assert refusal({"name": "a", "unknown": 1}).startswith("source 'a': unknown: 1: unknown field")


@pytest.mark.parametrize("where", ["zoo/a_hub/source.json", "nowhere/source.json"])
def test_a_named_card_that_is_not_there_is_an_error(folder, monkeypatch, where):
    monkeypatch.chdir(folder)
    assert refusal(where, kind=CheckpointError).startswith(f"{folder / where}: no such source; run")


@pytest.mark.parametrize(
    ("where", "excerpt"),
    [
        ("nowhere", "nowhere: no such folder or file; name a YAML bank, a folder of models"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read (No such file or directory)"),
        ("config.py:", "config.py:: no such folder or file"),
        ("config.py:we ights.pth", "config.py:we ights.pth: name: 'we ights': "),
        (
            "zoo/notes",
            "holds no source; name a folder whose subfolders hold a source.json, ",
        ),
    ],
)
def test_a_location_without_sources_is_named(folder, monkeypatch, where, excerpt):
    monkeypatch.chdir(folder)
    assert excerpt in refusal(where)


def test_names_of_two_locations_must_differ(folder):
    assert "source 'b_own' appears twice" in refusal(folder / "zoo", folder / "zoo/b_own")


def test_no_location_means_no_source():
    assert refusal() == "no source can be used; name at least one"
