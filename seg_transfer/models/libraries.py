"""The versions of the libraries whose change moves features. Read from what is installed; none is imported."""

from __future__ import annotations

from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version

_MMSEG = ("mmsegmentation", "mmseg")
# Kind of source -> the library that has its networks: its distribution, and the package that is imported.
_OF_KIND = {"study": _MMSEG, "mmseg": _MMSEG, "transformers": ("transformers",) * 2, "timm": ("timm",) * 2}


def library_versions(kind: str) -> dict[str, str]:
    """Library -> version, for what the features of a kind of source come from; of torch, major and minor version only.

    Builds of one version count as one: "2.13.0+cpu" is 2.13.
    """
    own = [_OF_KIND[kind]] if kind in _OF_KIND else []
    found = {name: installed_version(name, package) for name, package in [("Pillow", "PIL"), *own]}
    return {"torch": ".".join(installed_version("torch", "torch").split(".")[:2]), **found}


@cache
def installed_version(distribution: str, package: str) -> str:
    """Public version of a distribution, or of another that provides the same package; "not installed" without any."""
    try:
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        # Forks have other names. Looking through all distributions takes a while: only where there is the package.
        providers = packages_distributions().get(package, []) if PathFinder.find_spec(package) else []
        return version(providers[0]).partition("+")[0] if providers else "not installed"
