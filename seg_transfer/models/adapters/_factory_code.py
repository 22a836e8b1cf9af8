"""Finding the source files of a factory without running it: a content key must change with the code."""

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

# May match more than needed; the cost is at most a score that is computed again.
_OTHER_MEANS = re.compile(
    rb"\bsys\s*\.\s*path\b|\bfrom\s+sys\s+import\b|\bimport\s+sys\s+as\b|\bsite\b|__import__|__path__|"
    rb"\bimportlib\b|\bimp\b|\brunpy\b|\bpkgutil\b|\bexec\b|\bexecfile\b"
)
_SUFFIXES = tuple(suffix for suffix in all_suffixes() if suffix not in BYTECODE_SUFFIXES)


def parts_of(factory: str) -> tuple[str, str]:
    """Module and function of ``package.module:function``; raises ConfigError for any other text."""
    match = FACTORY.fullmatch(factory)
    if match is None:
        raise ConfigError(f"factory {factory!r}: must be package.module:function, such as nets.unet:build; correct it")
    return match[1], match[2]


def spec_of(module: str, folder: Path) -> ModuleSpec | None:
    """Find a module in `folder`, or else among the installed ones; None where there is none. Runs no code.

    Only files count, not what this process has imported so far.
    """
    top, *rest = module.split(".")
    own = None if top in sys.stdlib_module_names else PathFinder.find_spec(top, [str(folder)])
    # A folder without __init__.py is a package only where no other module has its name.
    spec = own if own and own.has_location else _installed(top) or own
    for part in rest:
        places = spec.submodule_search_locations if spec else None
        # By its last name, because its package is not loaded.
        spec = PathFinder.find_spec(part, list(places)) if places else None
    return spec


def _installed(top: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, which looks at the loaded modules first."""
    found = (finder.find_spec(top, None) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def digest_of_code(factory: str, folder: Path, memo: Path | None = None) -> str:
    """Digest of a factory's module and of all that it imports, directly or not, from `folder` or its own package.

    Where import statements do not tell, because code in `folder` changes ``sys.path`` or imports by other means, every
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
    found = source_files(factory, folder)
    lines = (f"{name} {sha256_of_file(file, memo)}" for name, file in sorted(found.items()))
    return hashlib.sha256("\n".join((module, *lines)).encode()).hexdigest()


def source_files(factory: str, folder: Path) -> dict[str, Path]:
    """Every file that counts, by the name of its module or, where that depends on running code, by its path."""
    found = dict(_sources(parts_of(factory)[0], folder))
    if any(_is_in(file, folder) and _imports_by_other_means(file) for file in found.values()):
        found |= {str(file.relative_to(folder)): file for file in _modules_below(folder)}
    return found


def own_names(factory: str, folder: Path) -> set[str]:
    """Names of the modules and packages directly in `folder` that a factory is in, or imports."""
    files = (file.relative_to(folder) for _, file in _sources(parts_of(factory)[0], folder) if _is_in(file, folder))
    return {file.parts[0].removesuffix(".py") for file in files}


def _imports_by_other_means(file: Path) -> bool:
    return file.suffix == ".py" and _OTHER_MEANS.search(file.read_bytes()) is not None


def _modules_below(folder: Path) -> Iterator[Path]:
    """Every module's file in a folder and below, but for hidden folders and environments."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in files if name.endswith(_SUFFIXES))
        folders[:] = [
            name for name in folders if not name.startswith((".", "__pycache__")) and not _is_environment(place, name)
        ]


def _is_environment(place: str, name: str) -> bool:
    return Path(place, name, "pyvenv.cfg").exists()


def _is_in(file: Path, folder: Path) -> bool:
    """Whether a module's file can be reached from a folder by its name; an environment below it is no package of it."""
    return file.is_relative_to(folder) and all(part.isidentifier() for part in file.relative_to(folder).parts[:-1])


def _sources(module: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every module that counts with its file, as far as import statements tell."""
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
    """Every name that an import statement in a file may mean a module by."""
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
