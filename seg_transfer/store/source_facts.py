"""Facts about a source of a run folder that can rank sources without features: its size, its work, its own mIoU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seg_transfer.errors import CheckpointError
from seg_transfer.store.network_costs import read_costs
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card

# The fields of a source that the study trains; any other field names a network from elsewhere.
_OF_TRAINED = frozenset({"name", "dataset", "scores_only", "features", "learning_rate", "license"})


def source_facts(folder: Path, source: Mapping[str, Any], source_key: str) -> dict[str, float]:
    """Return the facts about a source that are known.

    Args:
        folder: The run folder.
        source: The entry of the resolved study.
        source_key: Content key of the network and weights that were scored.

    Returns:
        Some of the `SOURCE_FACTS`: parameters and gflops of its network; own_miou, its mIoU on its own dataset, and
        n_train_images from its card.
    """
    from seg_transfer.evaluation import SOURCE_FACTS  # imported here because pandas takes half a second

    costs, card = read_costs(folder, source["name"], source_key), _card(folder, source)
    of_network = (costs.parameters, costs.gflops) if costs else (None, None)
    of_training = (card.miou, card.n_train_images) if card else (None, None)
    facts = zip(SOURCE_FACTS, (*of_network, *of_training), strict=True)
    return {name: float(value) for name, value in facts if value is not None}


def known_for_all(facts: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the facts that are known for every source.

    Example:
        >>> known_for_all([{"parameters": 9e6, "own_miou": 0.5}, {"own_miou": 0.4}])
        ['own_miou']
    """
    from seg_transfer.evaluation import SOURCE_FACTS

    every = list(facts)
    return [name for name in SOURCE_FACTS if every and all(name in known for known in every)]


def _card(folder: Path, source: Mapping[str, Any]) -> SourceCard | None:
    """Read the card of a source that the study trained, or that its entry names; None where there is none to read."""
    named = {name for name, value in source.items() if value is not None} - _OF_TRAINED
    file = folder / "sources" / source["name"] / FILE_NAME
    if named:
        file = Path(str(source.get("config")))
    if (named and (named != {"config"} or file.name != FILE_NAME)) or not file.is_file():
        return None
    try:
        return read_source_card(file)
    except CheckpointError:  # a damaged card costs a control, not the evaluation
        return None
