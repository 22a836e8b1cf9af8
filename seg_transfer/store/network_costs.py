"""What a source's network costs to run, kept in the run folder: a ranking shows it without loading the network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from seg_transfer.store.memo import load_cached, save_cached


@dataclass(frozen=True)
class NetworkCosts:
    """The size of a network and the work of one forward pass.

    Attributes:
        parameters: Number of parameters; shared ones count once.
        gflops: Billions of floating-point operations of one image, two per multiplication with addition; None if they
            cannot be counted.
        height, width: Size of that image in pixels.
        revision: The commit of the Hub's repository that the network comes from; None for files of the user.
        family: Its architecture, and the width and strides of the features that are read; None if it was not recorded.
    """

    parameters: int
    gflops: float | None
    height: int
    width: int
    revision: str | None = None
    family: str | None = None


def costs_file(folder: Path, source: str) -> Path:
    """Return the path of a source's costs in a run folder."""
    return folder / "costs" / f"{source}.json"


def write_costs(folder: Path, source: str, source_key: str, costs: NetworkCosts) -> None:
    """Keep the costs of a source; a file that cannot be written is no error, because only a column depends on it.

    Args:
        folder: The run folder.
        source: Name of the source.
        source_key: Content key of its network and weights, which the costs belong to.
        costs: The costs.
    """
    save_cached(costs_file(folder, source), {"source_key": str(source_key), **asdict(costs)})


def read_costs(folder: Path, source: str, source_key: str) -> NetworkCosts | None:
    """Return the costs that were kept for these weights of a source; None if there are none.

    Args:
        folder, source, source_key: As for `write_costs`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_costs(Path(folder), "city", "ab12", NetworkCosts(900, 0.5, 512, 512))
        ...     [read_costs(Path(folder), "city", key) for key in ("ab12", "cd34")]
        [NetworkCosts(parameters=900, gflops=0.5, height=512, width=512, revision=None, family=None), None]
    """
    stored = load_cached(costs_file(folder, source))
    match stored:
        case {"source_key": str(key), "parameters": int(parameters), "height": int(height), "width": int(width)} if (
            key == source_key
        ):
            revision, family = (_text(stored.get(field)) for field in ("revision", "family"))
            return NetworkCosts(parameters, _gflops(stored.get("gflops")), height, width, revision, family)
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _gflops(value: object) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
