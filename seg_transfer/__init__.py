"""Transferability estimation for semantic segmentation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_transfer.selection.rank import rank_sources

__all__ = ["rank_sources"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is asked for, and not with the package."""
    if name == "rank_sources":
        from seg_transfer.selection.rank import rank_sources

        return rank_sources
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
