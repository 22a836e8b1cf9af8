"""What is said of a ranking of sources beside its order: why this metric, whether its parts agree, and more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from seg_transfer.evaluation._controls import sizes_differ
from seg_transfer.evaluation._ranking_numbers import in_millions

if TYPE_CHECKING:
    from seg_transfer.evaluation._ranking import Ranking

LINEAR_HEAD = "probe_miou"
"""The metric that says what a linear head on a source's features reaches without fine-tuning; it decides nothing."""
_DEFAULT = "rank_mean"


def why_default(ranking: Ranking) -> Iterator[str]:
    """Yield why the default metric is the default; nothing where another decides."""
    if ranking.metric == _DEFAULT:
        yield (
            f"{_DEFAULT} is the default: on published pairs, no candidate (gbc, logme, nleep and mean ranks of them) "
            "was clearly better for sources of one architecture."
        )


def disagreement(ranking: Ranking) -> Iterator[str]:
    """Yield which sources the parts of a combined metric put first where that differs from the answer."""
    others = [f"{part} puts {name} first" for part, name in ranking.first_by.items() if name != ranking.best]
    if others:
        yield f"{' and '.join(ranking.parts)} disagree: {', '.join(others)}."


def architectures(ranking: Ranking) -> Iterator[str]:
    """Yield that scores of different architectures are hardly tested, where families are unknown but sizes differ."""
    if ranking.table["family"].notna().all():
        return
    known = ranking.table["parameters"].dropna()
    if len(known) and sizes_differ(known):
        sizes = f"{in_millions(int(known.min()))} to {in_millions(int(known.max()))} parameters"
        yield (
            f"These networks differ in architecture ({sizes}); between architectures these scores are hardly tested."
        )


def linear_head(ranking: Ranking) -> Iterator[str]:
    """Yield what a linear head reaches on the best source, and on another that is better by more than both errors."""
    table = ranking.table
    miou, error = table[LINEAR_HEAD], table[f"{LINEAR_HEAD}_error"]
    reached = f"Without fine-tuning, a linear head reaches a mIoU of about {miou.iloc[0]:.2f} on held-out images"
    clearly = miou - miou.iloc[0] > error + error.iloc[0]  # no comparison with NaN holds
    if clearly.any():
        better = table[clearly].sort_values(LINEAR_HEAD, ascending=False, kind="stable").iloc[0]
        other = f"{better[LINEAR_HEAD]:.2f} with those of {better['source']}"
        yield f"{reached} with the features of {ranking.best}, and {other}."
    elif miou.iloc[0] >= 0:
        yield f"{reached} with the features of {ranking.best}."
