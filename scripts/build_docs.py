"""Builds the API reference with pdoc into a folder. Warnings and broken references are errors."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pdoc.doc
import pdoc.render

import seg_transfer

# Runs the command line when it is imported.
NOT_IMPORTED = {"seg_transfer.__main__"}
LINK = re.compile(r'href="([^":]*\.html)?(?:#([^"]+))?"')
ANCHOR = re.compile(r'\sid="([^"]+)"')
# A private base class has no page to link to.
LINK_TO_PRIVATE = re.compile(r'<a href="#_[^"]*">(.*?)</a>')
# pandas' classes are generic in its stubs only.
PANDAS_GENERIC = re.compile(r"type annotation pd\.\w+\[.*is not subscriptable$")
# pdoc turns every name in backticks that it knows into a link.
UNKNOWN_NAME = re.compile(r"<code>(seg_transfer(?:\.\w+)+)(?:\(\))?</code>")


def public_modules() -> list[str]:
    """Import every module and its lazily imported names, and return the names of the public modules."""
    names = [seg_transfer.__name__]
    names += [found.name for found in pkgutil.walk_packages(seg_transfer.__path__, "seg_transfer.")]
    names = [name for name in names if name not in NOT_IMPORTED]
    for name in names:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            setattr(module, public, getattr(module, public))
        resolve_named_tuples(module)
    return [name for name in names if "._" not in name]


def resolve_named_tuples(module: ModuleType) -> None:
    """Resolve the annotations of named tuples' constructors, which are text without a module to resolve it in."""
    for item in vars(module).values():
        if isinstance(item, type) and issubclass(item, tuple) and hasattr(item, "_fields"):
            item.__new__.__annotations__ = get_type_hints(item)


def render(names: list[str], folder: Path) -> list[str]:
    """Write a page for every module, and an index; returns pdoc's warnings."""
    pdoc.render.configure(docformat="google", footer_text=f"seg_transfer {seg_transfer.__version__}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        modules = {name: pdoc.doc.Module.from_name(name) for name in names}
        for name, module in modules.items():
            # By default, pdoc leaves out the modules of a package that has `__all__`.
            module.submodules = [other for other in modules.values() if other.fullname.rpartition(".")[0] == name]
            page = page_of(name, folder)
            page.parent.mkdir(parents=True, exist_ok=True)
            text = pdoc.render.html_module(module, modules)
            page.write_text(LINK_TO_PRIVATE.sub(r"\1", text), encoding="utf-8")
        (folder / "index.html").write_text(pdoc.render.html_index(modules), encoding="utf-8")
        (folder / "search.js").write_text(pdoc.render.search_index(modules), encoding="utf-8")
    messages = [str(warning.message) for warning in caught]
    return [message for message in messages if not PANDAS_GENERIC.search(message)]


def page_of(module: str, folder: Path) -> Path:
    return folder / f"{module.replace('.', '/')}.html"


def broken_references(files: Iterable[Path]) -> Iterator[str]:
    """Yield links from these pages to missing pages or anchors, and names of this package that do not exist."""
    pages = {page.resolve(): page.read_text(encoding="utf-8") for page in files}
    anchors = {page: set(ANCHOR.findall(text)) for page, text in pages.items()}
    for page, text in pages.items():
        for file, anchor in set(LINK.findall(text)):
            target = (page.parent / file).resolve() if file else page
            if target not in pages or (anchor and anchor not in anchors[target]):
                yield f"{page.name}: a link to {file}#{anchor}, which does not exist"
        for name in set(UNKNOWN_NAME.findall(text)):
            yield f"{page.name}: `{name}` is not a name of the package"


def main(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of other libraries when they are imported
        names = public_modules()
    problems = render(names, folder)
    problems += broken_references([page_of(name, folder) for name in names])
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problem(s) in the API reference, listed above")
    print(f"the API reference is {folder / 'index.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
