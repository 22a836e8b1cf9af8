"""What the page says of the two runs of the study real7: what came out alike, what moved, and what probes say."""

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from loaded_scripts import script
from page_measures import TEXT, facts, measured
from page_text import RESULTS_PAGE, table

from seg_transfer.evaluation import SCENARIOS, SCRATCH, compare_metrics, metric_columns
from seg_transfer.evaluation import measures as measures_of
from seg_transfer.resources import shipped
from seg_transfer.store.published import published_pairs
from seg_transfer.store.run_results import read_run

RUNS = ("real7", "real7_rerun")
RERUN = shipped("data_manifests/published/real7_rerun")
SENTENCES = [
    # The study again
    "mIoU of the 42 pairs correlates with {M.correlation:.3f} between the runs, within targets with {M.within:.3f}; it "
    "differs by {M.mean:.2f} points on average and by {M.largest:.2f} at most. The best source is the same on "
    "{M.same_best} of 7 targets. Ranking sources by the mIoU of the first run, judged by that of the second, has a "
    "top-1 of {M.top1:.3f}, a tau_w of {M.tau_w:.3f} and a regret of {M.regret:.2f}.",
    "The tau_w of the 18 metrics in both runs have a rank correlation of {M.metrics:.2f}.",
    "LogME has {R.logme.tau_w:.3f} and {Q.logme.tau_w:.3f}, GBC {R.gbc.tau_w:.3f} and {Q.gbc.tau_w:.3f}, H-score "
    "{R.h_score.tau_w:.3f} and {Q.h_score.tau_w:.3f}, PACTran {R.pactran.tau_w:.3f} and {Q.pactran.tau_w:.3f}, LEEP "
    "{R.leep.tau_w:.3f} and {Q.leep.tau_w:.3f}, the default {R.rank_mean.tau_w:.3f} and {Q.rank_mean.tau_w:.3f}.",
    "Even the mean rank elsewhere falls from {R.mean_rank_elsewhere.tau_w:.3f} to {Q.mean_rank_elsewhere.tau_w:.3f}.",
    "Judged by the mIoU of the second run, LogME's scores of the first have {crossed[0]:.3f}; judged by that of the "
    "first, its scores of the second have {crossed[1]:.3f}. Judged by one seed of the first run alone, its scores have "
    "{seeds[0]:.3f}, {seeds[1]:.3f} and {seeds[2]:.3f}.",
    "H-score has {R.h_score.tau_w_low:.2f} to {R.h_score.tau_w_high:.2f} in the first run and "
    "{Q.h_score.tau_w_low:.2f} to {Q.h_score.tau_w_high:.2f} in the second, PACTran {R.pactran.tau_w_low:.2f} to "
    "{R.pactran.tau_w_high:.2f} and {Q.pactran.tau_w_low:.2f} to {Q.pactran.tau_w_high:.2f}.",
    "Over the 42 pairs, those of LogME correlate with {C.logme:.2f}, of H-score with {C.h_score:.2f}, of GBC with "
    "{C.gbc:.2f} and of N-LEEP with {C.nleep:.2f}.",
    "correlate with {W.leep:.2f} by LEEP and {W.otce:.2f} by OTCE, but {W.logme:.2f} by LogME, {W.h_score:.2f} by "
    "H-score, {W.gbc:.2f} by GBC and {W.nleep:.2f} by N-LEEP.",
    "`ridge_probe` ranks sources with a tau_w of {Q.ridge_probe.tau_w:.3f}, `knn` with {Q.knn.tau_w:.3f}, "
    "`linear_probe_miou` with {Q.linear_probe_miou.tau_w:.3f}, `linear_probe` with {Q.linear_probe.tau_w:.3f}, "
    "`probe_miou` with {Q.probe_miou.tau_w:.3f}.",
    "`ridge_probe` leads LogME by {ridge_probe_logme} and GBC by {ridge_probe_gbc}, `knn` by {knn_logme} and "
    "{knn_gbc}:",
    "`knn` has {Q_targets.knn.tau_w:.3f} and the probes {Q_targets.probe_miou.tau_w:.3f} to "
    "{Q_targets.linear_probe.tau_w:.3f}; of the other metrics, only `rank_mean` ({Q_targets.rank_mean.tau_w:.3f}) "
    "beats the number of classes ({Q_targets.minus_n_classes.tau_w:.3f}).",
    "correlates with the fine-tuned one with {H.correlation:.2f} over the 42 pairs; fine-tuning changes it by "
    "{H.mean:.1f} points on average, from {H.low:.1f} to {H.high:.1f}.",
    # What follows
    "their own mIoU {R.own_miou.tau_w:.3f} and {Q.own_miou.tau_w:.3f} (`real7` and its second run), the number of "
    "their training images {S.n_train_images.tau_w:.3f} (272), {R.n_train_images.tau_w:.3f} and "
    "{Q.n_train_images.tau_w:.3f}.",
    "GBC has {S.gbc.tau_w:.3f}, {A.gbc.tau_w:.3f}, {R.gbc.tau_w:.3f}, {Q.gbc.tau_w:.3f} and {E.gbc.tau_w:.3f}, LogME "
    "{S.logme.tau_w:.3f}, {A.logme.tau_w:.3f}, {R.logme.tau_w:.3f}, {Q.logme.tau_w:.3f} and {E.logme.tau_w:.3f}, "
    "N-LEEP {S.nleep.tau_w:.3f}, {A.nleep.tau_w:.3f}, {R.nleep.tau_w:.3f}, {Q.nleep.tau_w:.3f} and "
    "{E.nleep.tau_w:.3f}.",
    "on its second run, which [its rule](#the-default) did not see, {Q.rank_mean.regret:.2f} of {Q.random.regret:.2f}.",
    "on the 272 ({S.mean_rank_elsewhere.tau_w:.3f}), all but `hscore` do, on the second run of `real7` "
    "({Q.mean_rank_elsewhere.tau_w:.3f}), 13 of 23, and on `real11` ({E.mean_rank_elsewhere.tau_w:.3f}), 6 of 23.",
    "With sources trained anew, these four have a tau_w of {Q.pactran.tau_w:.3f}, {Q.h_score.tau_w:.3f}, "
    "{Q.sfda.tau_w:.3f} and {Q.logme.tau_w:.3f}.",
    "`knn` ({Q_targets.knn.tau_w:.3f} and {E_targets.knn.tau_w:.3f}) and the probes "
    "({Q_targets.probe_miou.tau_w:.3f} to {Q_targets.linear_probe.tau_w:.3f} and "
    "{E_targets.linear_probe_miou.tau_w:.3f} to {E_targets.probe_miou.tau_w:.3f}) beat it "
    "({Q_targets.minus_n_classes.tau_w:.3f} and {E_targets.minus_n_classes.tau_w:.3f}) in both runs that have them,",
    "with the same sources trained anew, it fell to {Q.logme.tau_w:.3f}.",
    "In its second run, `ridge_probe` has it in {Q.ridge_probe.n_first} of {Q.ridge_probe.n_left_out} cases, OTCE in "
    "{Q.otce.n_first}, LEEP in {Q.leep.n_first}.",
    # The project page
    "With these trained anew, LogME falls to {Q.logme.tau_w:.3f}.",
]
SIZE_OF_CHANGE = "Own mIoU differs by {:.3f} at most"


@cache
def pairs(run: str) -> pd.DataFrame:
    """The 42 pairs of a run; mIoU and what probes say of it in points."""
    frame = published_pairs(run)[0]
    frame = frame[frame["source"] != SCRATCH].set_index(["target", "source"]).sort_index()
    scale = {name: 100 for name in ("miou", "probe_miou", "linear_probe_miou") if name in frame}
    return frame.assign(**{name: factor * frame[name] for name, factor in scale.items()})


@cache
def moved() -> SimpleNamespace:
    """How far the performance of the 42 pairs agrees in both runs, and how well the first run ranks for the second."""
    first, second = (pairs(run)["miou"] for run in RUNS)
    gaps = [miou - miou.groupby("target").transform("mean") for miou in (first, second)]
    judged = pd.DataFrame(
        [measures_of(second[target].to_numpy(), first[target].to_numpy()) for target in second.index.unique("target")]
    )
    best = [miou.groupby("target").idxmax() for miou in (first, second)]
    both = [measured(run, "fixed_target").query("kind == 'metric'")["tau_w"] for run in RUNS]
    return SimpleNamespace(
        correlation=np.corrcoef(first, second)[0, 1],
        within=np.corrcoef(*gaps)[0, 1],
        mean=(first - second).abs().mean(),
        largest=(first - second).abs().max(),
        same_best=(best[0] == best[1]).sum(),
        tau_w=judged["tau_w"].mean(),
        top1=judged["top1"].mean(),
        regret=judged["regret"].mean(),
        metrics=both[0].corr(both[1], method="spearman"),
    )


@cache
def leads() -> dict[str, str]:
    """FIRST_SECOND: how far the first metric leads the second in tau_w in the second run, with the paired interval."""
    frame = published_pairs("real7_rerun")[0]
    rows = compare_metrics(frame, scenario="fixed_target", metrics=metric_columns(frame)).to_dict("records")
    found = {}
    for row in rows:
        lead, low, high = (row[name] for name in ("mean_difference", "difference_low", "difference_high"))
        found[f"{row['first']}_{row['second']}"] = f"{lead:.2f} ({low:.2f} to {high:.2f})"
        found[f"{row['second']}_{row['first']}"] = f"{-lead:.2f} ({-high:.2f} to {-low:.2f})"
    return found


@cache
def scores_alike() -> dict[str, SimpleNamespace]:
    """Correlations of both runs' scores by metric: C over all pairs, W of the ranks within targets."""
    first, second = (pairs(run) for run in RUNS)
    over, within = {}, {}
    for metric in ("gbc", "h_score", "leep", "logme", "nleep", "otce"):
        over[metric] = first[metric].corr(second[metric])
        ranks = [frame[metric].groupby("target").rank() for frame in (first, second)]
        within[metric] = ranks[0].corr(ranks[1])
    return {"C": SimpleNamespace(**over), "W": SimpleNamespace(**within)}


def judged_tau_w(scores: pd.Series, miou: pd.Series) -> float:
    """Mean weighted tau over targets, of pairs that both have."""
    found = [
        measures_of(miou.reindex(of.index).to_numpy(), of.to_numpy())["tau_w"] for _, of in scores.groupby("target")
    ]
    return float(np.mean(found))


@cache
def judged_elsewhere() -> dict[str, list[float]]:
    """What judges LogME: the mIoU of the other run (first's scores, second's), and single seeds of the first run."""
    first, second = (pairs(run) for run in RUNS)
    tuned = read_run(RERUN.parent / "real7").performance.set_index(["target", "source"])
    return {
        "crossed": [judged_tau_w(first["logme"], second["miou"]), judged_tau_w(second["logme"], first["miou"])],
        "seeds": [judged_tau_w(first["logme"], of["miou"]) for _, of in tuned.groupby("seed")],
    }


def linear_heads() -> SimpleNamespace:
    """How near the mIoU of a linear head is to that after fine-tuning, over the 42 pairs of the second run."""
    frame = pairs("real7_rerun")
    gaps = frame["miou"] - frame["probe_miou"]
    return SimpleNamespace(
        correlation=frame["miou"].corr(frame["probe_miou"]), mean=gaps.mean(), low=gaps.min(), high=gaps.max()
    )


@pytest.mark.parametrize("words", SENTENCES)
def test_what_the_page_says_of_both_runs(words: str) -> None:
    known = {**facts(), **leads(), **scores_alike(), **judged_elsewhere(), "M": moved(), "H": linear_heads()}
    assert words.format(**known) in TEXT


def test_the_verdicts_on_both_runs() -> None:
    """Which metrics lead, and whose intervals of both runs do not overlap: what the sentences say beside numbers."""
    first, second = (measured(run, "fixed_target").query("kind == 'metric'") for run in RUNS)
    assert second["tau_w"].nlargest(5).index.to_list() == ["ridge_probe", "otce", "leep", "parc", "knn"]
    assert (
        len(second),
        (second["tau_w"] > measured("real7_rerun", "fixed_target").loc["mean_rank_elsewhere", "tau_w"]).sum(),
    ) == (23, 13)
    apart = first["tau_w_low"] > second["tau_w_high"].reindex(first.index)
    assert first.index[apart].to_list() == ["h_score", "pactran", "emd"]
    targets = measured("real7_rerun", "fixed_source")
    metrics = targets.query("kind == 'metric'")["tau_w"]
    better = metrics.index[metrics > targets.loc["minus_n_classes", "tau_w"]]
    probes = {"knn", "ridge_probe", "probe_miou", "linear_probe", "linear_probe_miou"}
    assert set(better) == {*probes, "rank_mean"}
    assert metrics[list(probes - {"knn"})].agg(["idxmin", "idxmax"]).to_list() == ["probe_miou", "linear_probe"]


def test_the_rule_of_the_default_with_the_second_run() -> None:
    rule = script("choose_default")
    frames = [published_pairs(name)[0] for name in ("segmentation", "real7_rerun")]
    tables = {scenario: rule.summary(frames, scenario) for scenario in SCENARIOS}
    assert {scenario: "+".join(rule.choice(found)) for scenario, found in tables.items()} == {
        "fixed_target": "gbc+logme",
        "fixed_source": "gbc",
    }
    assert tables["fixed_source"].index[0] == "gbc+nleep"


def test_the_page_has_what_the_sources_reach_on_their_own_datasets() -> None:
    rows = table(RESULTS_PAGE, *(f"own mIoU, {run}" for run in RUNS))
    own = {}
    for run in RUNS:
        names = sorted(path.parent.name for path in shipped(f"data_manifests/published/{run}").glob("sources/*/*.json"))
        own[run] = [
            json.loads((RERUN.parent / run / "sources" / name / "source.json").read_text())["miou"] for name in names
        ]
        assert [float(cell) for cell in rows[f"own mIoU, {run}"]] == pytest.approx(own[run], abs=6e-4)
    assert SIZE_OF_CHANGE.format(np.abs(np.subtract(*own.values())).max()) in TEXT
