"""mmsegmentation is optional: without it all other sources are ranked, and what needs it says so in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import yaml
from other_nets import MEAN, STD, write_net

from seg_transfer.errors import ConfigError
from seg_transfer.models import compat
from seg_transfer.models.compat import import_mmseg, require_mmseg
from seg_transfer.resources import shipped

PACKAGES = {"mmseg", "mmcv", "mmengine"}
ADVICE = "mmsegmentation is not installed: pip install 'seg_transfer[mmseg]', or a fork of it"
# What Python runs first: it then finds none of these packages, as where they are not installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

OPTIONAL = {"mmseg", "mmcv", "mmengine", "cv2", "ftfy"}


class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in OPTIONAL else super().find_spec(name, path, target)


sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> Any:
    """A function that runs a command where mmsegmentation is not installed; a factory's source is in bank.yaml."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text(WITHOUT)
    write_net(folder, "Tokens")
    (folder / "bank.yaml").write_text(yaml.safe_dump({"sources": [tokens()]}))
    (folder / "study.yaml").write_text(yaml.safe_dump(study(small_world)))
    path = os.pathsep.join([str(folder), str(Path(compat.__file__).parents[2])])

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *(str(word) for word in words)]
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return run


def tokens() -> dict[str, Any]:
    return {
        "name": "tokens",
        "dataset": "web",
        "factory": "nets:Tokens",
        "classifier": "head",
        "weights": "Tokens.safetensors",
        "mean": list(MEAN),
        "std": list(STD),
    }


def study(world: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "manifests": [str(world / "manifests")],
        "sources": ["day_street", tokens()],
        "targets": ["cells_dark"],
        "model": "hrnetv2_tiny",
        "source_training": {"schedule": "source_training"},
    }


def test_every_module_but_those_that_train_is_imported(without):
    code = (
        "import importlib, pkgutil, sys, seg_transfer\n"
        "left_out = ('seg_transfer.__main__', 'seg_transfer.training.runner', 'seg_transfer.training.task')\n"
        "for module in pkgutil.walk_packages(seg_transfer.__path__, 'seg_transfer.'):\n"
        "    if module.name not in left_out:\n"
        "        importlib.import_module(module.name)\n"
        "assert not {'mmseg', 'mmcv', 'mmengine', 'cv2'} & sys.modules.keys()"
    )
    ended = without("-c", code)
    assert ended.returncode == 0, ended.stderr


def test_a_factory_is_ranked_beside_a_source_that_needs_mmsegmentation(without, small_world):
    config = shipped("configs/models/hrnetv2_tiny.py")
    options = ["--target", small_world / "manifests/cells_dark.yaml", "--data-root", small_world, "--json"]
    ended = without("-m", "seg_transfer", "rank", "bank.yaml", f"{config}:bank.yaml", *options)
    said = json.loads(ended.stdout)
    assert [row["source"] for row in said["ranking"]] == ["tokens"]
    assert said["skipped"] == {"bank": f"{config}: {ADVICE}"}
    assert ended.returncode == ConfigError.exit_code
    assert "Traceback" not in ended.stderr


def test_a_study_is_planned_and_its_training_is_refused_in_one_line(without, small_world):
    place = ["study.yaml", "--data-root", small_world]
    planned = without("-m", "seg_transfer", "plan", *place, "--json")
    assert planned.returncode == 0, planned.stderr
    assert len(json.loads(planned.stdout)["items"]) == 1 + 1 + 2
    ended = without("-m", "seg_transfer", "train-sources", *place, "--engine", "here", "--trust-config")
    assert ended.returncode == ConfigError.exit_code
    reason, _summary = ended.stderr.splitlines()
    assert reason.endswith(ADVICE)


def test_a_factory_is_not_fine_tuned_without_mmengine(without, small_world, tmp_path):
    tuning = {"schedule": "fine_tuning", "scratch": False}
    only = {**study(small_world), "sources": [tokens()], "source_training": None, "fine_tuning": tuning}
    name = f"{tmp_path.name}.yaml"
    assert without("-c", f"open({name!r}, 'w').write({yaml.safe_dump(only)!r})").returncode == 0
    place = [name, "--data-root", small_world, "--run-folder", tmp_path / "run"]
    ended = without("-m", "seg_transfer", "finetune-pairs", *place, "--engine", "here", "--trust-config")
    assert ended.returncode == ConfigError.exit_code
    reason, _summary = ended.stderr.splitlines()
    assert reason.endswith("training: mmengine is not installed: pip install 'seg_transfer[mmseg]', or a fork of it")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A function that puts packages of these texts in the place of mmsegmentation's, until the test ends."""
    real = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES}

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        compat._import.cache_clear()

    def plant(**packages: str) -> None:
        for package, text in packages.items():
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        forget()

    yield plant
    forget()
    sys.modules.update(real)


def test_versions_that_refuse_each_other_are_one_line(planted, tmp_path):
    """mmsegmentation asserts, when it is imported, that it knows the version of mmcv."""
    refusal = "raise AssertionError('MMCV==2.2.0 is used but incompatible.')"
    planted(mmcv="", mmengine="", mmseg=refusal)
    (tmp_path / "mmcv" / "ops.py").write_text("")
    (tmp_path / "mmengine" / "runner.py").write_text("")
    with pytest.raises(ConfigError) as error:
        import_mmseg("own.json")
    assert str(error.value) == (
        "own.json: mmsegmentation cannot be imported (MMCV==2.2.0 is used but incompatible.); "
        "install versions of mmsegmentation, mmcv and mmengine that belong together"
    )
    assert "mmcv._ext" not in sys.modules


def test_compiled_operators_stay_what_they_are(planted, tmp_path):
    own = "def get_instance(*_, **__): pass"
    planted(mmcv="", mmengine="", mmseg="")
    (tmp_path / "mmcv" / "_ext.py").write_text("compiled = True")
    (tmp_path / "mmcv" / "ops.py").write_text("raise AssertionError('imported with a stand-in')")
    (tmp_path / "mmseg" / "models.py").write_text("import mmcv._ext; assert mmcv._ext.compiled")
    (tmp_path / "mmengine" / "runner.py").write_text("")
    (tmp_path / "mmengine" / "logging.py").write_text(f"class MMLogger:\n    {own}")
    import_mmseg()
    assert sys.modules["mmcv._ext"].compiled


@pytest.mark.parametrize(("absent", "named"), [("mmseg", "mmsegmentation"), ("mmcv", "mmcv"), ("mmengine", "mmengine")])
def test_what_is_missing_is_named(monkeypatch, absent, named):
    found = PathFinder.find_spec
    for name in [name for name in sys.modules if name.partition(".")[0] == absent]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(PathFinder, "find_spec", lambda name, *rest: None if name == absent else found(name, *rest))
    with pytest.raises(ConfigError, match=f"own.json: {named} is not installed: pip install"):
        require_mmseg("own.json")
