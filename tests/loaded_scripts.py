"""Scripts as modules, for tests that call their functions."""

import importlib.util
from types import ModuleType

from page_text import ROOT


def script(name: str) -> ModuleType:
    """Load scripts/NAME.py without running it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
