"""Cloned research code puts folders of its own on ``sys.path``: what its key covers, and what it leaves behind."""

import subprocess
import sys
import types

import pytest
from other_nets import REPOSITORY, WAYS, factory_entry, repository

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters._factory_code import digest_of_code


@pytest.mark.parametrize("way", WAYS)
def test_two_repositories_whose_modules_have_the_same_names(tmp_path, way):
    sources = [repository(tmp_path / name, channels, way) for name, channels in (("one", 4), ("two", 6))]
    keys, before = [source.key() for source in sources], (set(sys.modules), sys.path, list(sys.path))
    for source, channels in zip(sources * 2, (4, 6, 4, 6), strict=True):
        assert source.load().n_features == channels
        assert (set(sys.modules), sys.path, list(sys.path)) == before
        assert sys.path is before[1]
    assert [source.key() for source in sources] == keys
    assert keys[0] != keys[1]


def test_the_key_is_the_same_in_a_process_that_has_imported_nothing(tmp_path):
    source = repository(tmp_path, 4)
    source.load()
    program = (
        "from pathlib import Path; from seg_transfer.models.adapters._factory_code import digest_of_code;"
        f"print(digest_of_code('model:build', Path({str(tmp_path)!r})))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == digest_of_code("model:build", tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REPOSITORY)
def test_the_key_changes_with_every_module_that_could_be_imported(tmp_path, name, way):
    source = repository(tmp_path, 4, way)
    before = source.key()
    with (tmp_path / name).open("a") as file:
        file.write("# another line\n")
    assert (source.key() != before) == name.startswith("nets/")


def test_code_outside_the_folder_is_refused_unless_the_folder_holds_both(tmp_path):
    """What the key does not cover could change unseen."""
    source = repository(tmp_path / "repository", 4)
    shared = tmp_path / "shared" / "blocks.py"
    shared.parent.mkdir()
    (tmp_path / "repository/nets/blocks.py").rename(shared)
    with (tmp_path / "repository/model.py").open("r+") as file:
        text = file.read().replace(
            "'nets'))\n", "'nets'))\nsys.path.append(os.path.dirname(__file__) + '/../shared')\n"
        )
        file.seek(0)
        file.write(text)
    before = list(sys.path)
    with pytest.raises(ConfigError) as caught:
        source.load()
    assert str(caught.value) == (
        f"factory model:build: imports {shared}, whose changes would go unnoticed: only modules in "
        f"{source.factory_folder} and installed ones are tracked; name a factory_folder that contains all of its code"
    )
    assert (sys.path, "blocks" in sys.modules, "model" in sys.modules) == (before, False, False)
    both = factory_entry("repository.model:build", tmp_path, source.weights, "1")
    key = both.key()
    assert both.load().n_features == 4
    shared.write_text(f"{shared.read_text()}# another line\n")
    assert both.key() != key


def test_a_module_of_the_same_name_from_elsewhere_is_neither_used_nor_lost(tmp_path, monkeypatch):
    other = types.ModuleType("blocks")
    other.__file__ = str(tmp_path / "elsewhere" / "blocks.py")
    monkeypatch.setitem(sys.modules, "blocks", other)
    assert repository(tmp_path / "repository", 4).load().n_features == 4
    assert sys.modules["blocks"] is other
