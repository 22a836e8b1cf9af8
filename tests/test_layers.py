"""Imports point one way: the pure core knows no edge, and neither knows what sits on them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import seg_transfer

PACKAGE = Path(seg_transfer.__file__).parent
# Lower ones know nothing of higher ones; rooms of one layer may know each other, but never in a circle.
LAYERS = {
    "errors": 0,
    "arrays": 0,
    **dict.fromkeys(("observations", "sampling", "metrics", "evaluation", "image_level"), 1),
    **dict.fromkeys(("console", "progress", "data", "models", "features", "training", "store", "resources"), 2),
    **dict.fromkeys(("study", "stages", "engines", "selection", "reports", "demo", "prediction"), 3),
    **dict.fromkeys(("cli", "__main__"), 4),
}
PURE_LIBRARIES = {"numpy", "scipy", "pandas"}
# POT couples sets of unequal sizes, which SciPy does by a dense linear program only; no other library has UMAP's maps.
# Both are optional: one door to each.
ALLOWED = {
    (PACKAGE / "arrays" / "device.py", "torch"),
    (PACKAGE / "metrics" / "_transport.py", "ot"),
    (PACKAGE / "observations" / "projection.py", "umap"),
}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def faults(file: Path, room: str) -> list[str]:
    found = []
    for module in imports(file):
        library = module.split(".")[0]
        if library == "seg_transfer" and module != "seg_transfer":
            if LAYERS[room_of(module)] > LAYERS[room]:
                found.append(f"{file.name} imports {module}")
        elif (file, library) in ALLOWED:
            continue
        elif LAYERS[room] <= 1 and library not in sys.stdlib_module_names | PURE_LIBRARIES | {"seg_transfer"}:
            found.append(f"{file.name} imports {library}")
        elif room in {"observations", "sampling", "metrics"} and library == "pandas":
            found.append(f"{file.name} imports pandas")
    return found


FILES = [
    (file, room_of(".".join(("seg_transfer", *file.relative_to(PACKAGE).with_suffix("").parts))))
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.name != "__init__.py" or file.parent != PACKAGE
]


@pytest.mark.parametrize(("file", "room"), FILES, ids=[str(file.relative_to(PACKAGE)) for file, _ in FILES])
def test_imports_point_inwards(file: Path, room: str) -> None:
    assert faults(file, room) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("metrics", "import torch"),
        ("sampling", "from seg_transfer.data.records import Record"),
        ("models", "def f():\n    from seg_transfer.study.run import Run"),
        ("observations", "import pandas as pd"),
        ("observations", "import ot"),
        ("metrics", "def f():\n    from ot.lp import emd"),
    ],
)
def test_the_check_finds_a_planted_import(tmp_path: Path, room: str, line: str) -> None:
    file = tmp_path / "planted.py"
    file.write_text(line)
    assert faults(file, room)


def test_an_exception_is_for_one_library_in_one_file_that_needs_it(tmp_path: Path, monkeypatch) -> None:
    assert all(library in {module.split(".")[0] for module in imports(file)} for file, library in ALLOWED)
    file = tmp_path / "_transport.py"
    file.write_text("import ot, torch")
    monkeypatch.setattr(sys.modules[__name__], "ALLOWED", {(file, "ot")})
    assert faults(file, "metrics") == ["_transport.py imports torch"]


def imported_by(*arguments: str) -> set[str]:
    shown = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    return {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines()}


@pytest.mark.parametrize("arguments", [["-c", "import seg_transfer"], ["-m", "seg_transfer", "--help"]])
def test_the_package_and_its_help_do_not_import_torch(arguments: list[str]) -> None:
    modules = imported_by(*arguments)
    assert "seg_transfer" in modules
    assert not modules & {"torch", "mmengine", "pandas", "scipy"}


def test_the_metrics_do_not_import_pot_before_it_is_needed() -> None:
    modules = imported_by("-c", "import seg_transfer.metrics, seg_transfer.metrics._transport")
    assert "seg_transfer.metrics._transport" in modules
    assert not modules & {"torch", "pandas", "ot"}


# Sizes and circles


def rooms_imported(room: str) -> set[str]:
    own = [file for file, name in FILES if name == room]
    found = {room_of(module) for file in own for module in imports(file) if module.startswith("seg_transfer.")}
    return found - {room}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Rooms that import each other, directly or through others: those that are left when leaves are taken away."""
    left = dict(graph)
    while leaves := [room for room, imported in left.items() if not imported & left.keys()]:
        for room in leaves:
            del left[room]
    return sorted(left)


def test_no_room_imports_itself_through_others() -> None:
    assert circle({room: rooms_imported(room) for room in {room for _, room in FILES}}) == []


def test_a_planted_circle_is_found() -> None:
    assert circle({"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": set(), "e": {"a"}}) == ["a", "b", "c", "e"]


def oversized(file: Path) -> Iterator[str]:
    text = file.read_text()
    if (lines := len(text.splitlines())) > 300:
        yield f"{file.name} has {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno and (lines := node.end_lineno - node.lineno + 1) > 50:
            yield f"{file.name}: {node.name} has {lines} lines"


def test_no_module_has_more_than_300_lines_and_no_function_more_than_50() -> None:
    root = PACKAGE.parent
    files = [file for folder in ("seg_transfer", "scripts", "tests") for file in sorted((root / folder).rglob("*.py"))]
    assert len(files) > 300
    assert [fault for file in files for fault in oversized(file)] == []


def test_a_planted_long_function_is_found(tmp_path: Path) -> None:
    file = tmp_path / "planted.py"
    file.write_text("def long():\n" + "    ...\n" * 50 + "x = 1\n" * 260)
    assert list(oversized(file)) == ["planted.py has 311 lines", "planted.py: long has 51 lines"]
