"""What the page says of the study real11, of the claims of the paper, and of the default that was chosen before it."""

import json
from functools import cache
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from loaded_scripts import script
from page_measures import TEXT, facts, measured
from page_text import RESULTS_PAGE, tables

from seg_transfer.evaluation import SCENARIOS, SCRATCH, compare_metrics, fine_tuning_noise, metric_columns
from seg_transfer.metrics import METRICS
from seg_transfer.resources import shipped
from seg_transfer.store.published import published_pairs
from seg_transfer.store.run_results import RunResults, read_run

FOLDER = shipped("data_manifests/published/real11")
CLEAR = ["camvid", "idd_lite", "labelmefacade", "dubai_aerial", "road_damage"]
"""The targets on which the best source beats ImageNet by two standard deviations between seeds."""
SENTENCES = [
    "the best of ten sources beats it by {G.clear_low:.1f} to {G.clear_high:.1f} points: `camvid`, `idd_lite`, "
    "`labelmefacade`, `dubai_aerial` and `road_damage`. On five, the best gains {G.other_low:.1f} to "
    "{G.other_high:.1f} points, less than two standard deviations between seeds. On `voc_animals` every source loses, "
    "the best by {G.animals:.1f} points",
    "Of the 110 pairs, {G.n_better} beat ImageNet, by {G.mean:.1f} points on average over all pairs.",
    "{N.fraction:.0%} differ by more than their seeds do ({N.real7:.0%} on `real7`).",
    "has a top-1 of {E.one_fine_tuning.top1:.3f}, a tau_w of {E.one_fine_tuning.tau_w:.3f} "
    "({E.one_fine_tuning.tau_w_low:.2f} to {E.one_fine_tuning.tau_w_high:.2f}) and a regret of "
    "{E.one_fine_tuning.regret:.2f}, where chance loses {E.random.regret:.2f}:",
    "N-LEEP has a tau_w of {E.nleep.tau_w:.3f} ({E.nleep.tau_w_low:.2f} to {E.nleep.tau_w_high:.2f}), `probe_miou` "
    "{E.probe_miou.tau_w:.3f} ({E.probe_miou.tau_w_low:.2f} to {E.probe_miou.tau_w_high:.2f}), PACTran "
    "{E.pactran.tau_w:.3f} ({E.pactran.tau_w_low:.2f} to {E.pactran.tau_w_high:.2f}), GBC {E.gbc.tau_w:.3f} "
    "({E.gbc.tau_w_low:.2f} to {E.gbc.tau_w_high:.2f}), LogME {E.logme.tau_w:.3f} ({E.logme.tau_w_low:.2f} to "
    "{E.logme.tau_w_high:.2f}).",
    "The first by OTCE loses {E.otce.regret:.2f} points, by `probe_miou` {E.probe_miou.regret:.2f} and by "
    "`linear_probe_miou` {E.linear_probe_miou.regret:.2f}, all less than chance beyond doubt; by N-LEEP "
    "{E.nleep.regret:.2f}, by GBC {E.gbc.regret:.2f}.",
    "GBC with LogME has {E.rank_mean.tau_w:.3f} ({E.rank_mean.tau_w_low:.2f} to {E.rank_mean.tau_w_high:.2f}) and "
    "loses {E.rank_mean.regret:.2f} points.",
    "(`probe_miou` {E_targets.probe_miou.tau_w:.3f}); `knn` ({E_targets.knn.tau_w:.3f}), the other probes "
    "({E_targets.linear_probe_miou.tau_w:.3f} to {E_targets.linear_probe.tau_w:.3f}) and GBC "
    "({E_targets.gbc.tau_w:.3f}) also beat the number of classes ({E_targets.minus_n_classes.tau_w:.3f}), the default "
    "({E_targets.rank_mean.tau_w:.3f}) does not. LogME ranks the wrong way ({E_targets.logme.tau_w:.3f}).",
    # Settings
    "diagonal covariances gain {B[0]:.3f} ({B[1]:.2f} to {B[2]:.2f}) with 16 in place of 64,",
    "Full covariances lose {F[0]:.3f} ({F[1]:.2f} to {F[2]:.2f}) at 64. Spherical ones differ from diagonal ones by "
    "{P[0]:.3f} ({P[1]:.2f} to {P[2]:.2f}).",
    "helps LEEP to rank targets, by {L[0]:.3f} ({L[1]:.2f} to {L[2]:.2f}), and no other of the four.",
    "GBC ranks targets with {I[10]:.3f} from 10 images, {I[20]:.3f} from 20, {I[40]:.3f} from 40 and {I[100]:.3f} from "
    "100.",
    # What a practitioner should do
    "it gains {G.camvid:.1f} (`camvid`), {G.idd_lite:.1f} (`idd_lite`) and {G.labelmefacade:.1f} points "
    "(`labelmefacade`) over ImageNet.",
    "has a tau_w of {E.one_fine_tuning.tau_w:.3f} and loses {E.one_fine_tuning.regret:.2f} of the "
    "{E.random.regret:.2f} points that chance loses.",
    "its first choice loses {E.probe_miou.regret:.2f} points, that of the default {E.rank_mean.regret:.2f}.",
    "with a tau_w of {E_targets.probe_miou.tau_w:.3f}, the number of classes with "
    "{E_targets.minus_n_classes.tau_w:.3f}.",
    # The project page
    "N-LEEP ({E.nleep.tau_w:.3f}) and a linear head ({E.probe_miou.tau_w:.3f}) rank sources, GBC ({E.gbc.tau_w:.3f}) "
    "and the default ({E.rank_mean.tau_w:.3f}) hardly do.",
    # What follows
    "it loses {A.rank_mean.regret:.2f} of {A.random.regret:.2f} and {E.rank_mean.regret:.2f} of {E.random.regret:.2f}, "
    "and ranks worse ({A.rank_mean.tau_w:.3f} and {E.rank_mean.tau_w:.3f}) than N-LEEP:",
]


@cache
def results() -> RunResults:
    return read_run(FOLDER)


@cache
def gains() -> pd.Series:
    """mIoU over that of ImageNet alone, in points, by target and source."""
    miou = results().miou.set_index(["target", "source"])["miou"].unstack()
    over = 100 * miou.drop(columns=SCRATCH).sub(miou[SCRATCH], axis=0)
    return over.stack().dropna()


def noise(folder_name: str) -> float:
    frame = fine_tuning_noise(read_run(FOLDER.parent / folder_name).performance).set_index("scenario")
    return float(frame.loc["fixed_target", "fraction_distinguishable"])


@cache
def said() -> dict[str, SimpleNamespace]:
    best = gains().groupby("target").max()
    clear, others = best[CLEAR], best.drop([*CLEAR, "voc_animals"])
    over = {name: best[name] for name in ("camvid", "idd_lite", "labelmefacade")}
    return {
        "G": SimpleNamespace(
            clear_low=clear.min(),
            clear_high=clear.max(),
            other_low=others.min(),
            other_high=others.max(),
            animals=-best["voc_animals"],
            n_better=(gains() > 0).sum(),
            mean=gains().mean(),
            **over,
        ),
        "N": SimpleNamespace(fraction=noise("real11"), real7=noise("real7")),
    }


def settings(name: str) -> pd.DataFrame:
    """What an ablation says where targets are ranked, by setting and metric."""
    stored = pd.read_parquet(FOLDER / f"ablations/{name}.parquet").query("scenario == 'fixed_source'")
    return stored.set_index(["ablation", "setting", "metric"]).sort_index()


def gain(row: pd.Series, sign: int) -> list[float]:
    """A difference in tau_w from the study's own setting, or minus it, with its interval."""
    low, high = sorted((sign * row["difference_low"], sign * row["difference_high"]))
    return [sign * row["mean_difference"], low, high]


@cache
def ablated() -> dict[str, list[float] | dict[int, float]]:
    gbc, samples = settings("gbc_settings").loc["covariance and PCA"], settings("samples")
    return {
        "B": gain(gbc.loc[("diagonal, 16", "gbc")], 1),
        "F": gain(gbc.loc[("full, 64", "gbc")], -1),
        "P": gain(gbc.loc[("spherical, 64", "gbc")], 1),
        "L": gain(samples.loc[("balance", "none", "leep")], -1),
        "I": {n: samples.loc[("images", str(n), "gbc"), "tau_w"] for n in (10, 20, 40, 100)},
    }


@pytest.mark.parametrize("words", SENTENCES)
def test_what_the_page_says_of_real11(words: str) -> None:
    assert words.format(**facts(), **said(), **ablated()).replace("%", " %") in TEXT


def test_the_targets_on_which_a_source_beats_imagenet_clearly() -> None:
    tuned = results().performance.query("source != @SCRATCH")
    variance = tuned.groupby(["target", "source"])["miou"].var().groupby("target").mean()
    ratio = gains().groupby("target").max() / (100 * variance**0.5)
    assert set(ratio.index[ratio > 2]) == set(CLEAR)
    assert (gains()["voc_animals"] < 0).all()
    best = gains().unstack().idxmax(axis=1)
    assert best[["camvid", "idd_lite", "labelmefacade", "nyuv2"]].isin(CLEAR[:3]).all()
    assert (best["road_damage"], best["dubai_aerial"]) == ("vocalfolds", "peanut")


def test_the_verdicts_on_real11() -> None:
    """Which metrics beat chance and controls: what the sentences say beside their numbers."""
    sources, targets = (measured("real11", scenario).query("kind == 'metric'") for scenario in SCENARIOS)
    assert set(sources.index[sources["tau_w_low"] > 0]) == {"nleep", "probe_miou", "pactran"}
    assert sources["tau_w"].idxmax() == "nleep"
    elsewhere = measured("real11", "fixed_target").loc["mean_rank_elsewhere", "tau_w"]
    above = (sources["tau_w"] > elsewhere).sum()
    assert f"and on `real11` ({elsewhere:.3f}), {above} of {len(sources)}." in TEXT
    n_classes = measured("real11", "fixed_source").loc["minus_n_classes", "tau_w"]
    assert set(targets.index[targets["tau_w"] > n_classes]) == {
        *("probe_miou", "knn", "linear_probe", "ridge_probe", "linear_probe_miou", "gbc")
    }
    pairs = published_pairs("real11")[0]
    less = compare_metrics(pairs, scenario="fixed_target", metrics=metric_columns(pairs), measure="regret")
    less = less[(less["second"] == "random") & (less["difference_high"] < 0)]
    assert set(less["first"]) == {"otce", "probe_miou", "linear_probe_miou"}
    order = compare_metrics(pairs, scenario="fixed_target", metrics=["nleep", "gbc"]).iloc[0]
    lead = "N-LEEP leads GBC by {mean_difference:.3f} ({difference_low:.2f} to {difference_high:.2f})."
    assert lead.format(**order) in TEXT


def test_the_page_has_what_the_sources_reach_on_their_own_datasets() -> None:
    ((head, rows),) = ((head, rows) for head, rows in tables(RESULTS_PAGE.read_text()) if "own mIoU, real11" in rows)
    own = [json.loads((FOLDER / "sources" / name / "source.json").read_text())["miou"] for name in head[1:]]
    assert [float(cell) for cell in rows["own mIoU, real11"]] == pytest.approx(own, abs=6e-4)


def test_the_table_of_claims_says_what_the_script_says() -> None:
    found: dict[str, dict[str, str]] = {}
    for one in script("paper_claims").findings():
        cell = f"{one.value:.3f} ({one.low:.2f} to {one.high:.2f}), {one.verdict}"
        found.setdefault(one.claim, {})[one.study.replace("segmentation", "272")] = cell
    ((head, rows),) = ((head, rows) for head, rows in tables(RESULTS_PAGE.read_text()) if head[0] == "claim")
    shown = {
        claim: {name: cell for name, cell in zip(head[1:], cells, strict=True) if cell} for claim, cells in rows.items()
    }
    assert shown == found


def test_the_verdict_on_a_claim_by_hand() -> None:
    finding = script("paper_claims").Finding
    verdicts = [finding("", "", 0.0, low, high, sign).verdict for sign in (1, -1) for low, high in ((1, 2), (-2, -1))]
    assert verdicts == ["confirmed", "refuted", "refuted", "confirmed"]
    assert finding("", "", 0.0, 0.0, 0.5, 1).verdict == "open"


def test_the_table_of_the_default_says_what_its_script_says() -> None:
    rule = script("choose_default")
    found = {scenario: rule.summary([published_pairs("real11")[0]], scenario) for scenario in SCENARIOS}
    rows = next(rows for head, rows in tables(RESULTS_PAGE.read_text()) if head[0] == "candidate on real11")
    assert list(rows) == list(map(rule.label, rule.CANDIDATES))
    for name, cells in rows.items():
        values = [found[scenario].loc[name, measure] for scenario in SCENARIOS for measure in ("regret", "tau_w")]
        assert [float(cell) for cell in cells] == pytest.approx(values, abs=6e-4), name


def test_the_rule_of_the_default_with_real11_beside_both_tables() -> None:
    rule = script("choose_default")
    frames = [*rule.known_pairs(), published_pairs("real11")[0]]
    chosen = {scenario: "+".join(rule.choice(rule.summary(frames, scenario))) for scenario in SCENARIOS}
    assert chosen == {"fixed_target": "gbc+logme", "fixed_source": "gbc"}


def test_the_studies_of_target_sizes_differ_in_nothing_else() -> None:
    studies = {name: study_of(name) for name in ("real11", "real11_20", "real11_100")}
    own = studies.pop("real11")
    for name, other in studies.items():
        assert other.pop("name") == name
        assert other.pop("low_shot") == int(name.partition("_")[2])
        assert other.pop("targets") == own["targets"][1::3]
        left_out = {"pactran", "linear_probe", "linear_probe_miou", "rank_mean"}
        assert set(METRICS) - set(other.pop("metrics")) == left_out
        assert other == {field: own[field] for field in other}


def study_of(name: str) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(shipped(f"configs/studies/{name}.yaml").read_text())
    return loaded
