"""Finding the source files of a factory without running it, so that its content key changes with the code."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import BYTECODE_SUFFIXES, ModuleSpec, PathFinder, all_suffixes
from pathlib import Path

from seg_transfer.errors import ConfigError
from seg_transfer.store.content_key import sha256_of_file

FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)
"""``package.module:function``."""

# May match more than needed, which at most costs a score that is computed again.
_DYNAMIC_IMPORTS = re.compile(
    rb"\bsys\s*\.\s*path\b|\bfrom\s+sys\s+import\b|\bimport\s+sys\s+as\b|\bsite\b|__import__|__path__|"
    rb"\bimportlib\b|\bimp\b|\brunpy\b|\bpkgutil\b|\bexec\b|\bexecfile\b"
)
_SUFFIXES = tuple(suffix for suffix in all_suffixes() if suffix not in BYTECODE_SUFFIXES)


def parts_of(factory: str) -> tuple[str, str]:
    """Split ``package.module:function`` into module and function; raises ConfigError for any other text."""
    match = FACTORY.fullmatch(factory)
    if match is None:
        raise ConfigError(f"factory {factory!r}: must be package.module:function, such as nets.unet:build; correct it")
    return match[1], match[2]


def spec_of(module: str, folder: Path) -> ModuleSpec | None:
    """Find a module in `folder`, or else among the installed ones; None if there is none. Runs no code.

    Only files count, not modules that this process has already imported.
    """
    top, *rest = module.split(".")
    local = None if top in sys.stdlib_module_names else PathFinder.find_spec(top, [str(folder)])
    # A folder without __init__.py is a package only if no other module has its name.
    spec = local if local and local.has_location else _installed(top) or local
    for part in rest:
        locations = spec.submodule_search_locations if spec else None
        # Searched by the last part of its name, because its package is not loaded.
        spec = PathFinder.find_spec(part, list(locations)) if locations else None
    return spec


def _installed(top: str) -> ModuleSpec | None:
    """Find an installed module as importlib.util.find_spec does, but ignore the loaded modules."""
    specs = (finder.find_spec(top, None) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def digest_of_code(factory: str, folder: Path, memo: Path | None = None) -> str:
    """Hash a factory's module and everything it imports, directly or indirectly, from `folder` or its own package.

    Import statements do not tell everything if code in `folder` changes ``sys.path`` or imports dynamically. Then every
    module in `folder` and below counts. Imports from elsewhere, such as other installed libraries, do not count.

    Args:
        factory: ``package.module:function``.
        folder: Where the module is looked for first.
        memo: Folder in which hashes of files that do not change are kept.

    Returns:
        Hex sha256.

    Raises:
        ConfigError: There is no such module, or a file is not readable as Python.
    """
    module, _ = parts_of(factory)
    if spec_of(module, folder) is None:
        raise ConfigError(f"factory {factory}: no module {module} in {folder} or installed; correct one of them")
    files = source_files(factory, folder)
    lines = (f"{name} {sha256_of_file(file, memo)}" for name, file in sorted(files.items()))
    return hashlib.sha256("\n".join((module, *lines)).encode()).hexdigest()


def source_files(factory: str, folder: Path) -> dict[str, Path]:
    """Return module name -> file for every file that counts; path -> file if the name depends on running code."""
    files = dict(_sources(parts_of(factory)[0], folder))
    if any(_is_in(file, folder) and _imports_dynamically(file) for file in files.values()):
        files |= {str(file.relative_to(folder)): file for file in _modules_below(folder)}
    return files


def own_names(factory: str, folder: Path) -> set[str]:
    """List the modules and packages directly in `folder` that contain a factory, or that it imports."""
    files = (file.relative_to(folder) for _, file in _sources(parts_of(factory)[0], folder) if _is_in(file, folder))
    return {file.parts[0].removesuffix(".py") for file in files}


def _imports_dynamically(file: Path) -> bool:
    return file.suffix == ".py" and _DYNAMIC_IMPORTS.search(file.read_bytes()) is not None


def _modules_below(folder: Path) -> Iterator[Path]:
    """Yield the files of all modules in a folder and below, except in hidden folders and environments."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in files if name.endswith(_SUFFIXES))
        folders[:] = [
            name for name in folders if not name.startswith((".", "__pycache__")) and not _is_environment(parent, name)
        ]


def _is_environment(parent: str, name: str) -> bool:
    return Path(parent, name, "pyvenv.cfg").exists()


def _is_in(file: Path, folder: Path) -> bool:
    """Return whether a module's file can be imported from a folder by name; environments below it do not count."""
    return file.is_relative_to(folder) and all(part.isidentifier() for part in file.relative_to(folder).parts[:-1])


def _sources(module: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every module that counts, as far as import statements tell, with its file."""
    top, seen, waiting = module.split(".")[0], set[str](), [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # importing a module runs the packages around it first
        spec = spec_of(name, folder)
        if spec is None or spec.origin is None or not spec.has_location:
            continue
        file = Path(spec.origin)
        if name.split(".")[0] != top and not _is_in(file, folder):
            continue
        yield name, file
        if file.suffix == ".py":
            package = name if spec.submodule_search_locations else name.rpartition(".")[0]
            waiting += _imported(file, package)


def _imported(file: Path, package: str) -> Iterator[str]:
    """Yield every name in the import statements of a file that may be a module."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{file}: not readable as Python ({' '.join(str(error).split())}); fix it") from error
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*around, *([node.module] if node.module else [])])
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
            else:  # `from . import x` beside a module that is in no package
                yield from (alias.name for alias in node.names)
