"""Which sources enter a race: all that may well be the best, as far as scores can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from seg_transfer.evaluation import Ranking

MIN_P_BEST = 0.05
"""Sources with a higher probability of having the highest score enter."""
MIN_CHANCE = 0.25
"""Sources with a higher chance of a higher mIoU than the first, judged by leads in published studies, enter."""


def entrants(ranking: Ranking) -> tuple[str, ...]:
    """Choose the sources of a race: those whose scores do not rule out that they are the best.

    A source enters if it is the first of its family of networks, because scores do not compare families; if it is tied
    for first in it; if its probability of having the highest score is above `MIN_P_BEST`; or if in published studies
    more than `MIN_CHANCE` of the rivals so far behind reached a higher mIoU. Where only one source is left although its
    lead over the second is not that certain, the second enters too.

    Args:
        ranking: The ranked sources of a target.

    Returns:
        Names, the most promising first: the first of every family, then the others by what their families' scores say.

    Example:
        >>> from seg_transfer.evaluation import ranking_of
        >>> row = {"standard_error": None, "replicates": None, "seconds": 1.0, "n_images": 40, "n_observations": 4000}
        >>> rows = {"a": {"gbc": {**row, "score": -9.0}}, "b": {"gbc": {**row, "score": -3.0}}}
        >>> entrants(ranking_of("city", "gbc", rows, {}))
        ('b', 'a')
    """
    firsts = list(ranking.best_of_families)
    others = sorted(_others(ranking), key=lambda row: -row["promise"])
    chosen = [*firsts, *(row["source"] for row in others)]
    if len(chosen) == 1 and len(ranking.table) > 1 and not _is_certain(ranking):
        chosen.append(str(ranking.table["source"].iloc[1]))
    return tuple(chosen)


def _others(ranking: Ranking) -> Iterator[Mapping[Any, Any]]:
    for family in ranking.families:
        for row in family.table.to_dict("records")[1:]:
            chance = 1 - row["confidence"]  # NaN where unknown, and then not above anything
            if row["tied"] or row["probability"] > MIN_P_BEST or chance > MIN_CHANCE:
                yield {**row, "promise": _or_zero(row["probability"]) + _or_zero(chance)}


def _is_certain(ranking: Ranking) -> bool:
    return bool(ranking.table["confidence"].iloc[0] >= 1 - MIN_P_BEST)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
