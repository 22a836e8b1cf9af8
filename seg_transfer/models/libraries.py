"""Versions of the libraries that features depend on, read from the installed distributions without importing them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import NamedTuple


class Library(NamedTuple):
    """A library whose version is part of the key of features: its `distribution`, and the `package` to import."""

    distribution: str
    package: str


MMSEGMENTATION = Library("mmsegmentation", "mmseg")
_PILLOW = Library("Pillow", "PIL")


def library_versions(libraries: Iterable[Library]) -> dict[str, str]:
    """Return the versions of torch (major and minor only), Pillow, and the given libraries.

    Builds of one version count as one: "2.13.0+cpu" is 2.13.

    Args:
        libraries: The libraries of a source's entry.

    Returns:
        Distribution -> version, "not installed" where it is not.
    """
    versions = {name: installed_version(name, package) for name, package in [_PILLOW, *libraries]}
    return {"torch": ".".join(installed_version("torch", "torch").split(".")[:2]), **versions}


@cache
def installed_version(distribution: str, package: str) -> str:
    """Return the public version of a distribution, or of another one with the same package; else "not installed"."""
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        # A fork has another name. Searching all distributions is slow, so search only if the package exists.
        providers = packages_distributions().get(package, []) if PathFinder.find_spec(package) else []
        return version(providers[0]).partition("+")[0] if providers else "not installed"
