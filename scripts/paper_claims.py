"""Hold four claims of the GBC paper against the published studies, each with its paired 95 % interval over groups.

    python scripts/paper_claims.py

1. GBC is first in top-1 where a source is chosen: its top-1 minus that of the best of LEEP, LogME, N-LEEP and H-score.
2. LogME fails where targets are ranked: its tau_w there.
3. Diagonal covariances rank better than spherical ones, at 64 dimensions: tau_w of the spherical form minus that of the
   diagonal one.
4. A class-balanced sample of pixels helps every metric: tau_w with uniform pixels minus that with balanced ones.

A claim is confirmed where the interval lies on its side of 0, refuted where it lies on the other, and else open. Claims
3 and 4 need a study's `ablations`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from seg_transfer.console import console_logging, plain_console
from seg_transfer.evaluation import SCENARIOS, compare_metrics, evaluate
from seg_transfer.reports.tables import plain_table
from seg_transfer.store.published import published_pairs, published_studies

RIVALS = ("leep", "logme", "nleep", "h_score")
SEGMENTATION = "segmentation"


class Finding(NamedTuple):
    """What one study says of a claim.

    Attributes:
        claim: The claim, in few words.
        study: Name of the published pairs.
        value: The measured difference or tau_w.
        low, high: Its 95 % interval over the groups of the study.
        sign: 1 if the claim says that the value is positive, -1 if negative.
    """

    claim: str
    study: str
    value: float
    low: float
    high: float
    sign: int

    @property
    def verdict(self) -> str:
        """Confirmed, refuted or open."""
        low, high = sorted((self.sign * self.low, self.sign * self.high))
        return "confirmed" if low > 0 else "refuted" if high < 0 else "open"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows = [
        [one.claim, one.study, f"{one.value:.3f}", f"{one.low:.2f} to {one.high:.2f}", one.verdict]
        for one in findings()
    ]
    columns = ["claim", "study", "value", "95 % interval", "verdict"]
    plain_console().print(plain_table("Claims of the GBC paper", columns, rows, "claim"))


def findings() -> list[Finding]:
    """List what the published studies say, claim by claim."""
    studies: dict[str, Path | None] = {SEGMENTATION: None, **published_studies()}
    found = [finding for name, folder in studies.items() for finding in _of_study(name, folder)]
    claims = list(dict.fromkeys(finding.claim for finding in found))
    return sorted(found, key=lambda finding: claims.index(finding.claim))


def _of_study(name: str, folder: Path | None) -> Iterator[Finding]:
    pairs, _ = published_pairs(name)
    yield _gbc_first(name, pairs)
    yield _logme_of_targets(name, pairs)
    if folder is not None and (folder / "ablations/samples.parquet").exists():
        yield from _spherical(name, pd.read_parquet(folder / "ablations/gbc_settings.parquet"))
        yield from _uniform(name, pd.read_parquet(folder / "ablations/samples.parquet"))


def _gbc_first(name: str, pairs: pd.DataFrame) -> Finding:
    rivals = [metric for metric in RIVALS if metric in pairs]
    rows = compare_metrics(pairs, scenario="fixed_target", metrics=["gbc", *rivals], measure="top1")
    best = rows[(rows["first"] == "gbc") & rows["second"].isin(rivals)].sort_values("mean_difference").iloc[0]
    return _finding("GBC first in top-1, fixed target", name, best, 1)


def _logme_of_targets(name: str, pairs: pd.DataFrame) -> Finding:
    found = evaluate(pairs, metrics=["logme"]).query("scenario == 'fixed_source' and metric == 'logme'").iloc[0]
    return Finding("LogME fails, fixed source", name, found["tau_w"], found["tau_w_low"], found["tau_w_high"], -1)


def _spherical(name: str, settings: pd.DataFrame) -> Iterator[Finding]:
    rows = settings[settings["setting"] == "spherical, 64"].set_index("scenario")
    for scenario in SCENARIOS:
        yield _finding(f"spherical for diagonal, {_words(scenario)}", name, rows.loc[scenario], -1)


def _uniform(name: str, samples: pd.DataFrame) -> Iterator[Finding]:
    rows = samples[(samples["ablation"] == "balance") & (samples["setting"] == "none")]
    for row in rows.to_dict("records"):
        yield _finding(f"uniform pixels, {row['metric']}, {_words(row['scenario'])}", name, row, -1)


def _finding(claim: str, study: str, row: Any, sign: int) -> Finding:
    return Finding(claim, study, row["mean_difference"], row["difference_low"], row["difference_high"], sign)


def _words(scenario: str) -> str:
    return scenario.replace("_", " ")


if __name__ == "__main__":
    with console_logging():
        main()
