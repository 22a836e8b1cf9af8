"""Versions of the libraries that features depend on, from the installed distributions; nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import NamedTuple


class Library(NamedTuple):
    """A library whose version belongs to the key of features: its `distribution`, and the `package` one imports."""

    distribution: str
    package: str


MMSEGMENTATION = Library("mmsegmentation", "mmseg")
_PILLOW = Library("Pillow", "PIL")


def library_versions(libraries: Iterable[Library]) -> dict[str, str]:
    """Versions of torch (major and minor version only), Pillow, and these libraries, from which features come.

    Builds of one version count as one: "2.13.0+cpu" is 2.13.

    Args:
        libraries: Those of a source's entry.

    Returns:
        Distribution -> version, "not installed" where it is not.
    """
    found = {name: installed_version(name, package) for name, package in [_PILLOW, *libraries]}
    return {"torch": ".".join(installed_version("torch", "torch").split(".")[:2]), **found}


@cache
def installed_version(distribution: str, package: str) -> str:
    """Public version of a distribution, or of another that provides the same package; "not installed" without any."""
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        # A fork has another name. Searching all distributions is slow, so only where the package exists.
        providers = packages_distributions().get(package, []) if PathFinder.find_spec(package) else []
        return version(providers[0]).partition("+")[0] if providers else "not installed"
