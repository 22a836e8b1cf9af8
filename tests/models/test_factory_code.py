"""The code that decides what a factory makes is found without running it, and every change of it changes its digest."""

import subprocess
import sys
from pathlib import Path

import pytest

from seg_transfer.errors import ConfigError
from seg_transfer.models.adapters._factory_code import digest_of_code, own_names, spec_of

FILES = {
    "zoo/__init__.py": "raise RuntimeError('this must not be run')\n",
    "zoo/nets/__init__.py": "",
    "zoo/nets/unet.py": "from . import blocks\nfrom ..shared.layers import conv\nimport helpers\nimport json\n",
    "zoo/nets/blocks.py": "def block():\n    from zoo.late import deep\n",
    "zoo/shared/layers.py": "from .norms import *\n",
    "zoo/shared/norms.py": "",
    "zoo/late.py": "",
    "zoo/unused.py": "",
    "helpers.py": "import sub.inner as inner\n",
    "sub/inner.py": "",
    "unused.py": "",
    ".venv/lib/installed.py": "",
}
UNUSED = {"zoo/unused.py", "unused.py", ".venv/lib/installed.py"}
FACTORY = "zoo.nets.unet:build"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_the_digest_changes_with_every_file_that_is_imported_and_with_no_other(folder, name):
    before = digest_of_code(FACTORY, folder)
    with (folder / name).open("a") as file:
        file.write("# another line\n")
    assert (digest_of_code(FACTORY, folder) == before) == (name in UNUSED)


def test_the_names_that_are_the_folders_own(folder):
    assert own_names(FACTORY, folder) == {"zoo", "helpers", "sub"}


def test_a_copy_of_the_folder_has_the_same_digest(folder, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for name, text in FILES.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    assert digest_of_code(FACTORY, copy) == digest_of_code(FACTORY, folder)


def test_the_module_and_not_only_its_text_counts(folder):
    (folder / "one.py").write_text("def build(): ...\n")
    (folder / "two.py").write_text("def build(): ...\n")
    assert digest_of_code("one:build", folder) != digest_of_code("two:build", folder)


def test_an_installed_package_counts_with_its_own_modules_and_no_others(folder, tmp_path_factory, monkeypatch):
    installed = tmp_path_factory.mktemp("site")
    for name, text in {"lib/__init__.py": "from lib import a\n", "lib/a.py": "import other\n", "other.py": ""}.items():
        (installed / name).parent.mkdir(exist_ok=True)
        (installed / name).write_text(text)
    monkeypatch.syspath_prepend(installed)
    before = digest_of_code("lib:build", folder)
    (installed / "other.py").write_text("x = 1\n")
    assert digest_of_code("lib:build", folder) == before
    (installed / "lib/a.py").write_text("import other  # changed\n")
    assert digest_of_code("lib:build", folder) != before
    assert own_names("lib:build", folder) == set()
    assert "lib" not in sys.modules


def test_what_lies_in_the_folder_comes_before_what_is_installed_but_not_before_the_standard_library(folder):
    (folder / "yaml.py").touch()
    (folder / "json.py").touch()
    (folder / "numpy").mkdir()
    found = {name: spec_of(name, folder) for name in ("yaml", "json", "numpy", "sub.inner", "sub.absent", "absent.x")}
    places = {name: spec.origin for name, spec in found.items() if spec is not None}
    assert places["yaml"] == str(folder / "yaml.py")
    assert str(folder) not in places["json"] + places["numpy"]
    assert places["sub.inner"] == str(folder / "sub/inner.py")
    assert places.keys() == {"yaml", "json", "numpy", "sub.inner"}


@pytest.mark.parametrize(
    ("factory", "excerpt"),
    [
        ("absent:build", "factory absent:build: no module absent in "),
        ("zoo.absent:build", "factory zoo.absent:build: no module zoo.absent in "),
        ("broken:build", "broken.py: not readable as Python ("),
        ("../zoo:build", "factory '../zoo:build': must be package.module:function"),
    ],
)
def test_what_cannot_be_found_is_named(folder, factory, excerpt):
    (folder / "broken.py").write_text("def build(:\n")
    with pytest.raises(ConfigError) as caught:
        digest_of_code(factory, folder)
    assert excerpt in str(caught.value)
    assert "\n" not in str(caught.value)


def test_modules_that_import_each_other_are_read_once(folder):
    (folder / "chicken.py").write_text("import egg\n")
    (folder / "egg.py").write_text("import chicken\n")
    assert own_names("egg:build", folder) == {"chicken", "egg"}


def test_no_code_is_run_and_no_torch_imported(folder):
    program = (
        "import sys; from pathlib import Path; from seg_transfer.models.adapters._factory_code import digest_of_code;"
        f"digest_of_code({FACTORY!r}, Path({str(folder)!r}));"
        "print({'torch', 'zoo', 'helpers', 'mmengine'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
