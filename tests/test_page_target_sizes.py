"""What the page says of real11 with 20, 40 and 100 target images, on the four targets that all three have."""

from functools import cache

import pandas as pd
from page_text import RESULTS_PAGE, tables

from seg_transfer.evaluation import SCRATCH, evaluate, fine_tuning_noise, metric_columns
from seg_transfer.resources import shipped
from seg_transfer.store.published import published_pairs
from seg_transfer.store.run_results import read_run

TARGETS = ["idd_lite", "voc_animals", "vocalfolds", "nuclei"]
STUDIES = {"20": "real11_20", "40": "real11", "100": "real11_100"}
RANKERS = ["one_fine_tuning", "nleep", "probe_miou", "gbc", "logme", "rank_mean"]
BOTH = ["gbc", "knn", "probe_miou", "minus_n_classes"]


@cache
def column(study: str) -> dict[str, str]:
    """The cells of one number of images."""
    results = read_run(shipped(f"data_manifests/published/{study}"))
    tuned = results.performance[results.performance["target"].isin(TARGETS)]
    pairs = published_pairs(study)[0].query("target in @TARGETS")
    miou = tuned.groupby(["target", "source"])["miou"].mean().unstack()
    gain = 100 * (miou.drop(columns=SCRATCH).max(axis=1) - miou[SCRATCH])
    noise = (
        tuned.query("source != @SCRATCH").groupby(["target", "source"])["miou"].var().groupby("target").mean() ** 0.5
    )
    distinct = fine_tuning_noise(tuned).set_index("scenario").loc["fixed_target", "fraction_distinguishable"]
    found = evaluate(pairs, metrics=metric_columns(pairs), fine_tunings=tuned).set_index(["scenario", "metric"])
    sources, targets = found.loc["fixed_target"], found.loc["fixed_source"]
    return {
        "mIoU of ImageNet alone": f"{miou[SCRATCH].mean():.3f}",
        "the best source's gain over it, points": f"{gain.mean():.2f}",
        "standard deviation between seeds, points": f"{100 * noise.mean():.2f}",
        "rivals that differ by more than their seeds": f"{100 * distinct:.0f} %",
        **{f"sources, tau_w: {name}": f"{sources.loc[name, 'tau_w']:.3f}" for name in RANKERS},
        **{f"sources, regret: {name}": f"{100 * sources.loc[name, 'regret']:.2f}" for name in [*RANKERS, "random"]},
        **{f"targets, tau_w: {name}": f"{targets.loc[name, 'tau_w']:.3f}" for name in BOTH},
    }


def expected() -> pd.DataFrame:
    return pd.DataFrame({images: column(study) for images, study in STUDIES.items()})


def test_the_table_of_target_sizes() -> None:
    ((head, rows),) = ((head, rows) for head, rows in tables(RESULTS_PAGE.read_text()) if head[0] == "real11, images")
    assert pd.DataFrame(rows, index=head[1:]).T.equals(expected())


def test_40_images_are_those_of_the_whole_study() -> None:
    pairs = published_pairs("real11")[0]
    for study in ("real11_20", "real11_100"):
        other = published_pairs(study)[0]
        assert set(other["target"]) == set(TARGETS)
        own = pairs.query("target in @TARGETS")[["source", "target"]]
        assert set(own.itertuples(index=False)) == set(other[["source", "target"]].itertuples(index=False))
