"""Choose what `rank_mean` averages, by a fixed rule, and test the choice on a table that the rule did not see.

    python scripts/choose_default.py
    python scripts/choose_default.py --test architectures
    python scripts/choose_default.py --test real11

Candidates are GBC, LogME and N-LEEP, and the mean ranks of two or three of them: the metrics that both tables have and
that need features alone, so that every source can be ranked. The rule, for each of the two scenarios:

1. The measures are regret, in points of mIoU, and tau_w. Each is averaged over all groups of the 272 published pairs
   and of the study real7, every group with one vote.
2. The leader has the smallest sum of its two ranks by these means, and of equal ones the one with the lower regret.
3. A candidate is as good where the paired 95 % bootstrap intervals of its difference from the leader contain 0 for both
   measures.
4. Of the leader and those as good, those without N-LEEP, which takes dozens of times as long as the others, come first;
   then those with more parts, whose disagreement shows where a target is unusual; then the order of point 2.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from seg_transfer.evaluation import GROUP_AND_ITEM, SCENARIOS, SCRATCH, measures
from seg_transfer.evaluation._bootstrap import bootstrap_draws, percentile_intervals, weighted_means
from seg_transfer.metrics import rank_mean
from seg_transfer.metrics._rank_mean import PARTS
from seg_transfer.reports.performance import POINTS
from seg_transfer.store.published import published_names, published_pairs

SINGLE = ("gbc", "logme", "nleep")
CANDIDATES = [parts for size in (1, 2, 3) for parts in combinations(SINGLE, size)]
SLOW = "nleep"
KNOWN = ("segmentation", "real7")
"""The tables that the rule sees."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    others = [name for name in published_names() if name not in KNOWN]
    parser.add_argument("--test", choices=others, help="show the choice on these pairs instead, unchanged")
    test = parser.parse_args(arguments).test
    for scenario in SCENARIOS:
        frames = [published_pairs(test)[0]] if test else known_pairs()
        table = summary(frames, scenario)
        chosen = PARTS[scenario] if test else choice(table)
        print(f"\n{scenario}: {table.attrs['n_groups']} groups; {'rank_mean' if test else 'chosen'}: {label(chosen)}")
        print(table.round(3).to_string())


def known_pairs() -> list[pd.DataFrame]:
    """Read the two tables that the rule sees."""
    return [published_pairs(name)[0] for name in KNOWN]


def summary(frames: Sequence[pd.DataFrame], scenario: str) -> pd.DataFrame:
    """Return one row per candidate, the best first: means, and the intervals of its differences from the leader."""
    values = np.array([row for frame in frames for row in _values(frame, scenario)])
    means = weighted_means(np.ones((1, len(values))), values)[0]
    table = pd.DataFrame(means, columns=["regret", "tau_w"], index=list(map(label, CANDIDATES)))
    table["ranks"] = table["regret"].rank() + table["tau_w"].rank(ascending=False)
    leader = int(np.lexsort((table["regret"], table["ranks"]))[0])
    low, high = percentile_intervals(
        weighted_means(bootstrap_draws(len(values), 2000, 0), values - values[:, [leader]])
    )
    for column, name in enumerate(("regret", "tau_w")):
        table[f"{name}_low"], table[f"{name}_high"] = low[:, column], high[:, column]
    bounds = np.stack([low, high])
    table["as_good"] = ((bounds[0] <= 0) & (bounds[1] >= 0)).all(axis=1)
    table.attrs["n_groups"] = len(values)
    return table.sort_values(["ranks", "regret"])


def choice(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the parts that the rule chooses from a table of `summary`."""
    as_good = [tuple(name.split("+")) for name in table.index[table["as_good"]]]
    return min(as_good, key=lambda parts: (SLOW in parts, -len(parts)))


def label(parts: Sequence[str]) -> str:
    return "+".join(parts)


def _values(frame: pd.DataFrame, scenario: str) -> Iterator[list[tuple[float, float]]]:
    """Yield regret and tau_w of every candidate, group by group."""
    for _, members in frame[frame["source"] != SCRATCH].groupby(GROUP_AND_ITEM[scenario][0]):
        miou = members["miou"].to_numpy()
        scores = [rank_mean(*(members[part] for part in parts)) for parts in CANDIDATES]
        measured = [measures(miou, score) for score in scores]
        yield [(POINTS * values["regret"], values["tau_w"]) for values in measured]


if __name__ == "__main__":
    main()
