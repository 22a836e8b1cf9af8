"""mmseg configs that are Python code: running one, and remembering the result while no file has changed."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seg_transfer.errors import ConfigError, reason_of
from seg_transfer.models.compat import import_mmseg
from seg_transfer.models.libraries import installed_version
from seg_transfer.models.preprocessing import model_of
from seg_transfer.store.memo import is_settled, load_cached, name_of, save_cached, version_of

# Functions that a config may call and still give the same result every time it is read.
_PURE_FUNCTIONS = {"dict", "list", "tuple", "set", "range", "len", "min", "max", "sum", "abs", "round", "sorted", "zip"}
_PURE_FUNCTIONS |= {"int", "float", "str", "bool", "enumerate"}
_IMPURE_TEXT = re.compile(r"\{\{\s*\$|custom_imports")
_MISSING_MODULES = re.compile(r"Failed to import custom modules from \{'imports': \[?'(\w+)")


def run_config(file: Path, memo: Path | None) -> Any:
    """Run a .py config, and return its ``model`` entry; kept in `memo` if it cannot come out differently."""
    import_mmseg(str(file))
    from mmengine import Config

    from seg_transfer.models.registered import with_registered_names

    began = time.time_ns()
    try:
        config = Config.fromfile(file).to_dict()
        files = list(dict.fromkeys(_with_bases(file))) if memo else []
    except Exception as error:  # a config is arbitrary code and fails in arbitrary ways
        raise ConfigError(f"{file}: {_reason(error)}") from error
    model = with_registered_names(model_of(config))
    versions = {str(path.absolute()): version_of(path) for path in files}
    if memo and all(is_settled(version, began) for version in versions.values()) and all(map(_is_pure, files)):
        save_cached(_memo_file(file, memo), {"reader": _reader(), "files": versions, "model": model})
    return model


def read_memo(file: Path, memo: Path) -> Any:
    """Return the model that was read last time if every file it was read from is unchanged; otherwise None."""
    cached = load_cached(_memo_file(file, memo))
    files = cached.get("files")
    if cached.get("reader") != _reader() or not isinstance(files, dict) or not files:
        return None
    try:
        is_unchanged = all(version_of(Path(name)) == version for name, version in files.items())
    except OSError:
        return None
    return cached.get("model") if is_unchanged else None


def _memo_file(file: Path, memo: Path) -> Path:
    return memo / "configs" / f"{name_of([str(file.absolute())])}.json"


def _reader() -> str:
    """Name what read a config: what an earlier version of this module read may lack a normalization."""
    return f"mmengine {installed_version('mmengine', 'mmengine')}, normalization of any version"


def _reason(error: Exception) -> str:
    """Say why a config cannot be read; mmengine would list the whole import path."""
    missing = _MISSING_MODULES.search(str(error))
    if missing:
        return f"imports {missing[1]}, which is not installed or does not fit; pip install {missing[1]}"
    return f"not a readable mmengine config ({reason_of(error)}); fix the config"


def _with_bases(file: Path) -> Iterator[Path]:
    """Yield a config and all its base configs."""
    from mmengine import Config

    yield file
    for base in Config._get_base_files(str(file)):
        yield from _with_bases(Path(Config._get_cfg_path(base, str(file))[0]))


def _is_pure(file: Path) -> bool:
    """Return whether a config gives the same result every time: it reads no environment variables, imports or files."""
    text = file.read_text(encoding="utf-8")
    if _IMPURE_TEXT.search(text):
        return False
    nodes = list(ast.walk(ast.parse(text))) if file.suffix == ".py" else []
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return called <= _PURE_FUNCTIONS and not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
