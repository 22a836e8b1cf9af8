"""Check a finished demo: for every target, the related source must be the best, and GBC must choose it.

    python scripts/demo_answer.py runs/demo

Prints the result; the exit code is 1 if any target has another answer.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from seg_transfer.demo.domains import DOMAINS
from seg_transfer.evaluation import evaluate_groups
from seg_transfer.store.results import read_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    pairs, _ = read_pairs(parser.parse_args().demo / "run")
    wrong = wrong_answers(pairs)
    print("\n".join(wrong) or f"the related source is best and chosen by gbc for all {len(DOMAINS)} targets")
    sys.exit(bool(wrong))


def wrong_answers(pairs: pd.DataFrame) -> list[str]:
    """List one line per target whose best source, or GBC's choice, is not the source of its family."""
    groups = evaluate_groups(pairs, scenarios=["fixed_target"])
    found = groups[groups["metric"] == "gbc"].set_index("group")
    lines = []
    for target, domain in DOMAINS.items():
        (related,) = [name for name, other in DOMAINS.items() if other.family == domain.family and name != target]
        best, chosen = found.loc[target, ["best", "chosen"]]
        if not best == chosen == related:
            lines.append(f"{target}: {best} is best and gbc chooses {chosen}; the related source is {related}")
    return lines


if __name__ == "__main__":
    main()
