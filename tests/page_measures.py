"""What `evaluate` says of the published pairs, for tests of the page of results."""

from functools import cache
from types import SimpleNamespace

import pandas as pd
from page_text import RESULTS_PAGE, ROOT

from seg_transfer.evaluation import evaluate, metric_columns, robustness, robustness_summary
from seg_transfer.store.published import published_pairs, published_studies
from seg_transfer.store.run_results import read_fine_tunings

LETTERS = {"S": "segmentation", "A": "architectures", "R": "real7", "Q": "real7_rerun", "E": "real11"}
TEXT = " ".join(word for page in (RESULTS_PAGE, ROOT / "README.md") for word in page.read_text().split())
"""The pages that name results, in one line."""


@cache
def measured(published: str, scenario: str) -> pd.DataFrame:
    """One row per metric, control and ceiling; regret in points."""
    pairs, _ = published_pairs(published)
    study = published_studies().get(published)
    fine_tunings = None if study is None else read_fine_tunings(study)
    found = evaluate(pairs, metrics=metric_columns(pairs), fine_tunings=fine_tunings).set_index(["scenario", "metric"])
    found[["regret", "regret_low", "regret_high"]] *= 100
    return found.loc[scenario]


@cache
def robust(published: str) -> pd.DataFrame:
    pairs, _ = published_pairs(published)
    return robustness_summary(robustness(pairs, metrics=metric_columns(pairs))).set_index("metric")


@cache
def facts() -> dict[str, SimpleNamespace]:
    """Metric -> measure -> value, by names that a format string takes.

    S, A, R, Q and E are the 272 pairs, the architectures, the two runs of real7, and real11; S_targets etc. are the
    same where the targets of a source are ranked.
    """
    found = {}
    for letter, published in LETTERS.items():
        sources = measured(published, "fixed_target").join(robust(published).drop(columns=["kind", "tau_w"]))
        for name, frame in (
            (letter, sources.convert_dtypes()),
            (f"{letter}_targets", measured(published, "fixed_source")),
        ):
            rows = {metric: SimpleNamespace(**row) for metric, row in frame.to_dict("index").items()}
            found[name] = SimpleNamespace(**rows)
    return found
