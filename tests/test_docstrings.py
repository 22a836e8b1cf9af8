"""Every public function of the pure rooms says what it takes and gives, and has an example that the doctests run."""

import importlib
import inspect
from collections.abc import Callable, Iterator

import pytest

MODULES = (
    "seg_transfer.metrics",
    "seg_transfer.evaluation",
    "seg_transfer.sampling",
    "seg_transfer.observations",
    "seg_transfer.observations.projection",
    "seg_transfer.observations.uncertainty",
    "seg_transfer.image_level",
)


def public_functions(module: str) -> Iterator[tuple[str, Callable]]:
    """Those in ``__all__``; where there is none, those that the module defines under a name without underscore."""
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None) or [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    for name in names:
        if inspect.isfunction(getattr(loaded, name)):
            yield f"{module}.{name}", getattr(loaded, name)


FUNCTIONS = dict(item for module in MODULES for item in public_functions(module))


def faults(function: Callable) -> list[str]:
    """What a docstring lacks: an example, a summary of one line, or a parameter among its arguments."""
    text = inspect.getdoc(function) or ""
    summary, _, rest = text.partition("\n")
    found = [] if "\nExample:\n" in text and ">>> " in text else ["no example"]
    found += [] if summary.endswith((".", ":")) and not rest.partition("\n")[0].strip() else ["no summary line"]
    described = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
    names = inspect.signature(function).parameters
    return found + [f"{name} is not described" for name in names if f"    {name}: " not in described]


def test_functions_are_found_in_every_module():
    assert {name.rpartition(".")[0] for name in FUNCTIONS} == set(MODULES)
    assert len(FUNCTIONS) > 45


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_documented(name):
    assert faults(FUNCTIONS[name]) == []


def test_the_check_finds_what_is_missing():
    def bare(pairs, seed):
        """Means of pairs, and

        Args:
            pairs: One row per pair.
        """

    assert faults(bare) == ["no example", "no summary line", "seed is not described"]
