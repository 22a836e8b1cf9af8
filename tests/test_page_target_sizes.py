"""What the page says of real11 with 20, 40 and 100 target images, on the four targets that all three have."""

from functools import cache

import pandas as pd
from page_measures import TEXT, measured
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


@cache
def measures(study: str, scenario: str = "fixed_target") -> pd.DataFrame:
    """What `evaluate` says of the metrics on the four targets; regret in points."""
    pairs = published_pairs(study)[0].query("target in @TARGETS")
    found = evaluate(pairs, metrics=metric_columns(pairs)).query("scenario == @scenario and kind == 'metric'")
    return found.assign(regret=100 * found["regret"]).set_index("metric")


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


def test_the_words_about_target_sizes() -> None:
    miou = {images: float(column(study)["mIoU of ImageNet alone"]) for images, study in STUDIES.items()}
    gains = {
        images: float(column(study)["the best source's gain over it, points"]) for images, study in STUDIES.items()
    }
    of = {images: measures(study) for images, study in STUDIES.items()}
    trans_rate = [of[images].loc["trans_rate", "tau_w"] for images in STUDIES]
    probe = [of[images].loc["probe_miou", "regret"] for images in STUDIES]
    whole = measured("real11", "fixed_target").loc["trans_rate"]
    chance = column(STUDIES["100"])["sources, regret: random"]
    for words in (
        f"ImageNet alone gains {100 * (miou['100'] - miou['20']):.1f} points of mIoU from 20 to 100 images;",
        f"the best source gains {gains['20']:.1f} points with 20 and {gains['40']:.1f} with 40 and 100.",
        "(tau_w {:.3f}, {:.3f} and {:.3f})".format(*trans_rate),
        f"TransRate has {whole['tau_w']:.3f} ({whole['tau_w_low']:.2f} to {whole['tau_w_high']:.2f}):",
        "loses {:.2f} points with 20 images, the least of all metrics, {:.2f} with 40, and {:.2f} with 100, ".format(
            *probe
        )
        + f"where chance loses {chance}.",
    ):
        assert words in TEXT
    assert f"{gains['40']:.1f}" == f"{gains['100']:.1f}"
    above = {images: set(frame.index[frame["tau_w_low"] > 0]) for images, frame in of.items()}
    assert above == {"20": {"trans_rate", "nleep"}, "40": {"trans_rate", "nleep", "pactran"}, "100": {"trans_rate"}}
    assert of["20"]["regret"].idxmin() == "probe_miou"
    for images in ("40", "100"):
        targets = measures(STUDIES[images], "fixed_source")
        assert targets.loc[["gbc", "knn", "probe_miou"], "tau_w"].min() > 1 - 1e-9
