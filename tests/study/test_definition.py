from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, Metric
from seg_transfer.resources import shipped
from seg_transfer.study.definition import load_study, schedule_of

MANIFEST = {
    "title": "Two greys",
    "domain": "test",
    "classes": ["dark", "bright"],
    "labels": {"encoding": "id", "ignore": [255]},
    "train": {"images": "images/*.png", "labels": "labels/*.png"},
    "eval": {"images": "eval/images/*.png", "labels": "eval/labels/*.png"},
    "low_shot": {"limit": 9, "seed": 5},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "crop_size": [32, 48],
}
SCHEDULE = {"steps": 10, "batch_size": 2, "learning_rate": 0.1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """manifests/{a,b,c}.yaml, schedules/short.yaml and an empty model.py, all beside the folder of the study."""
    for name in "abc":
        write(tmp_path / f"manifests/{name}.yaml", {"name": name, "root": name, **MANIFEST})
    write(tmp_path / "schedules/short.yaml", SCHEDULE)
    (tmp_path / "model.py").touch()
    return tmp_path


def write(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(content))


def study_file(folder: Path, **fields: Any) -> Path:
    study = {"name": "s", "manifests": ["../manifests"], "sources": ["a", "b"], "targets": ["b", "c"]}
    write(folder / "studies/s.yaml", study | fields)
    return folder / "studies/s.yaml"


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_study(file)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_paths_are_relative_to_the_study_and_not_to_the_working_directory(folder, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file = study_file(
        folder,
        model="../model.py",
        source_training={"schedule": "../schedules/short.yaml", "init_checkpoint": "weights.pth"},
        fine_tuning={"schedule": "../schedules/short.yaml"},
        sources=["a", {"name": "web", "dataset": "x", "config": "web.py", "checkpoint": "/data/web.pth"}],
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    study, manifests = load_study(file)
    assert study.model == folder / "model.py"
    assert study.manifests == (folder / "manifests",)
    assert study.source_training is not None
    assert study.source_training.schedule == folder / "schedules/short.yaml"
    assert study.source_training.init_checkpoint == folder / "studies/weights.pth"
    assert study.source("web").config == folder / "studies/web.py"
    assert study.source("web").checkpoint == Path("/data/web.pth")
    assert set(manifests) == {"a", "b", "c"}


def test_a_study_given_by_a_relative_path_is_the_same(folder, monkeypatch):
    file = study_file(folder, model="../model.py")
    monkeypatch.chdir(folder)
    assert load_study(file.relative_to(folder)) == load_study(file)


def test_a_source_may_be_a_dataset_or_an_entry(folder):
    study, manifests = load_study(study_file(folder, sources=["a", {"name": "other_a", "dataset": "a"}], targets=["c"]))
    assert [(source.name, source.dataset) for source in study.sources] == [("a", "a"), ("other_a", "a")]
    assert set(manifests) == {"a", "c"}


def test_the_dataset_of_a_source_that_was_brought_along_needs_no_manifest(folder):
    entry = {"name": "web", "dataset": "instagram", "config": "source.json"}
    _, manifests = load_study(study_file(folder, sources=[entry]))
    assert set(manifests) == {"b", "c"}


def test_the_dataset_of_a_source_that_was_brought_along_has_its_manifest_where_there_is_one(folder):
    entry = {"name": "web", "dataset": "a", "config": "source.json"}
    _, manifests = load_study(study_file(folder, sources=[entry], low_shot=3))
    assert set(manifests) == {"a", "b", "c"}
    assert manifests["a"].low_shot.limit == 3


def stand_in(name: str, *needs: str, **settings: str) -> Metric:
    return replace(METRICS["gbc"], name=name, needs=frozenset(needs), settings=settings)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three metrics, and one that is made of two of them."""
    mixed = stand_in("mixed", "scores", parts="one,three")
    metrics = {"one": stand_in("one"), "mixed": mixed, "two": stand_in("two"), "three": stand_in("three")}
    monkeypatch.setattr("seg_transfer.metrics.METRICS", metrics)


@pytest.mark.parametrize(
    ("named", "resolved"),
    [
        ("all", ("one", "three", "two")),
        (["two", "mixed"], ("two", "one", "three")),
        (["three", "mixed", "two"], ("three", "one", "two")),
        (["mixed"], ("one", "three")),
        (["two", "two"], ("two",)),
    ],
)
def test_all_metrics_and_those_that_are_made_of_others(folder, known, named, resolved):
    study, _ = load_study(study_file(folder, metrics=named))
    assert study.metrics == resolved
    assert study.model_dump(mode="json")["metrics"] == list(resolved)


def test_the_metrics_of_all_are_those_that_score_a_pair(folder):
    study, _ = load_study(study_file(folder, metrics="all"))
    assert set(study.metrics) == {name for name, metric in METRICS.items() if "scores" not in metric.needs}


def test_low_shot_replaces_the_number_of_images_and_keeps_their_seed(folder):
    _, own = load_study(study_file(folder))
    _, limited = load_study(study_file(folder, low_shot=3))
    assert {manifest.low_shot.limit for manifest in own.values()} == {9}
    assert {(manifest.low_shot.limit, manifest.low_shot.seed) for manifest in limited.values()} == {(3, 5)}
    assert own["a"].model_dump(exclude={"low_shot"}) == limited["a"].model_dump(exclude={"low_shot"})


def test_changes_replace_fields_of_the_schedule(folder):
    tuning = {"schedule": "../schedules/short.yaml", "changes": {"steps": 7, "scale_range": [0.9, 1.1]}}
    study, _ = load_study(study_file(folder, fine_tuning=tuning))
    assert study.fine_tuning is not None
    schedule = schedule_of(study.fine_tuning)
    assert (schedule.steps, schedule.batch_size, schedule.scale_range) == (7, 2, (0.9, 1.1))


@pytest.mark.parametrize("field", ["source_training", "fine_tuning"])
@pytest.mark.parametrize(
    ("training", "excerpt"),
    [
        ({"changes": {"stepz": 3}}, "stepz: 3: unknown field; remove it or correct its spelling"),
        ({"changes": {"steps": -3}}, "steps: -3: "),
        ({"changes": {"learning_rate": "fast"}}, "learning_rate: 'fast': "),
        ({"schedule": "none.yaml"}, "none.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_schedule_is_refused_with_the_study_and_its_field(folder, field, training, excerpt):
    file = study_file(folder, **{field: {"schedule": "../schedules/short.yaml", **training}})
    line = refusal(file)
    assert line.startswith(f"{file}: field {field}: ")
    assert excerpt in line


@pytest.mark.parametrize(
    ("fields", "excerpt"),
    [
        ({"sources": ["a", "b", "a"]}, "field sources: 'a' appears twice; remove one of the entries"),
        (
            {"sources": ["a", {"name": "a", "dataset": "b"}]},
            "field sources: 'a' appears twice; remove one of the entries",
        ),
        ({"targets": ["c", "c"]}, "field targets: 'c' appears twice; remove one of the entries"),
        ({"sources": [{"name": "scratch", "dataset": "a"}]}, "field sources: 'scratch' is reserved for the control"),
        ({"sources": ["z"]}, "field sources: unknown dataset 'z'; the manifests have a, b, c"),
        ({"targets": ["z"]}, "field targets: unknown dataset 'z'; the manifests have a, b, c"),
        ({"sources": []}, "sources: []: "),
        ({"targets": []}, "targets: []: "),
        ({"metrics": []}, "metrics: []: "),
        ({"metrics": "every"}, "metrics: 'every': "),
        ({"metrics": ["all"]}, "unknown metric 'all'; choose among gbc, "),
        ({"metrics": ["gbc", "magic"]}, "unknown metric 'magic'; choose among gbc, "),
        ({"name": "../s"}, "name: '../s': "),
        ({"sources": [{"name": "../a", "dataset": "a"}]}, "sources.0.name: '../a': "),
        ({"low_shot": 0}, "low_shot: 0: "),
        ({"normalisation": "none"}, "normalisation: 'none': "),
        ({"precision": "half"}, "precision: 'half': "),
        ({"sampling": {"grid": "half"}}, "sampling.grid: 'half': "),
        ({"sampling": {"seed": -1}}, "sampling.seed: -1: "),
        ({"fine_tuning": {"schedule": "../schedules/short.yaml", "seeds": []}}, "fine_tuning.seeds: []: "),
        ({"keep_feature": True}, "keep_feature: True: unknown field"),
    ],
)
def test_a_broken_rule_is_refused_with_file_field_value_and_advice(folder, fields, excerpt):
    file = study_file(folder, **fields)
    line = refusal(file)
    assert line.startswith(f"{file}: ")
    assert excerpt in line


def test_a_source_with_weights_and_no_config_is_refused(folder):
    entry = {"name": "web", "dataset": "x", "checkpoint": "web.pth"}
    assert "source 'web' has a checkpoint and no config; name the config" in refusal(
        study_file(folder, sources=[entry])
    )


def test_a_source_with_a_config_and_no_weights_is_refused_because_its_weights_would_be_random(folder):
    entry = {"name": "web", "dataset": "x", "config": "web.py"}
    assert "source 'web' has a config and no checkpoint; name its weights" in refusal(
        study_file(folder, sources=[entry])
    )


def test_a_dataset_with_two_manifests_is_refused(folder):
    write(folder / "more/a.yaml", {"name": "a", "root": "a", **MANIFEST})
    line = refusal(study_file(folder, manifests=["../manifests", "../more/a.yaml"]))
    assert line == f"{folder / 'more/a.yaml'}: dataset 'a' already has a manifest; list only one of them"


def test_code_configs_are_the_python_files_that_are_not_our_own(folder):
    tiny = str(shipped("configs/models/hrnetv2_tiny.py"))
    web = {"name": "web", "dataset": "x", "config": "web.py", "checkpoint": "web.pth"}
    plain = {"name": "plain", "dataset": "x", "config": "plain.yaml", "checkpoint": "web.pth"}
    ours = {"name": "ours", "dataset": "x", "config": tiny, "checkpoint": "web.pth"}
    study, _ = load_study(study_file(folder, sources=["a", web, plain, ours], model=tiny))
    assert study.code() == [str(folder / "studies/web.py")]
    study, _ = load_study(study_file(folder, model="../model.py"))
    assert study.code() == [str(folder / "model.py")]


@pytest.mark.parametrize("name", sorted(path.name for path in shipped("configs/studies").glob("*.yaml")))
def test_shipped_studies_load(name):
    study, manifests = load_study(shipped(f"configs/studies/{name}"))
    assert set(manifests) >= set(study.targets)
