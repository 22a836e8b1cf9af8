"""Scripts as modules, for tests that call their functions."""

import importlib.util
import sys
from types import ModuleType

from page_text import ROOT


def script(name: str) -> ModuleType:
    """Load scripts/NAME.py without running it; it finds its siblings as it does when it runs."""
    folder = str(ROOT / "scripts")
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
