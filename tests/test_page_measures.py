"""What the page of results says of metrics and controls is what `evaluate` says of the published pairs.

A table whose first heading is a scenario or the name of published pairs, or both with a comma, is checked cell by cell.
Every other heading is a measure; words before a colon say of what, from that column on.
"""

import pandas as pd
import pytest
from page_measures import TEXT, facts, measured, robust
from page_text import RESULTS_PAGE, Table, tables

from seg_transfer.store.published import published_studies

SCENARIOS = {"fixed target": "fixed_target", "fixed source": "fixed_source"}
PUBLISHED = {"272": "segmentation", "architectures": "architectures", "architectures_frozen": "architectures_frozen"}
PUBLISHED |= {name: name for name in published_studies()}
INTERVAL = "95 %"
MEASURES = {
    "top-1": "top1",
    "tau_w": "tau_w",
    "regret": "regret",
    "fidelity": "fidelity",
    "share": "tau_w_share",
    "without the largest": "tau_w_without_largest",
    "of similar size": "tau_w_equal_size",
    "one left out": "tau_w_min tau_w_max",
}


def values_of(published: str, scenario: str, measure: str) -> pd.DataFrame:
    """The columns of a measure, two for an interval."""
    columns = measure.split()
    if columns[0].startswith(("tau_w_without", "tau_w_equal", "tau_w_min")):
        return robust(published)[columns]
    return measured(published, scenario)[columns]


def columns_of(head: list[str]) -> list[tuple[str, str, str]]:
    """Published pairs, scenario and measure of every column after the first; none for a table of another kind."""
    found: list[tuple[str, str, str]] = []
    published = scenario = measure = ""
    if not set(head[0].split(", ")) <= {*PUBLISHED, *SCENARIOS}:
        return found
    for heading in (f"{head[0]}: ", *head[1:]):
        context, _, shown = heading.rpartition(": ")
        for word in filter(None, context.split(", ")):
            published, scenario = PUBLISHED.get(word, published), SCENARIOS.get(word, scenario)
        if shown:
            measure = measure if shown == INTERVAL else MEASURES[shown]
            found.append((published, scenario, f"{measure}_low {measure}_high" if shown == INTERVAL else measure))
    return found


def holds(cell: str, values: list[float]) -> bool:
    """Whether a cell has the rounded values; an empty one has none, or an interval without length."""
    if not cell:
        return all(map(pd.isna, values)) or (len(values) == 2 and values[0] == values[1])
    shown = cell.split(" to ")
    return len(shown) == len(values) and all(map(is_rounded, shown, values))


def is_rounded(text: str, value: float) -> bool:
    """Whether the text is the value, rounded: half a unit of its last digit, and a tenth for other processors."""
    return abs(float(text) - value) <= 0.6 * 10.0 ** -len(text.partition(".")[2])


def faults(head: list[str], rows: Table) -> list[str]:
    """The cells of a table that do not say what `evaluate` says."""
    found = []
    for place, (published, scenario, measure) in enumerate(columns_of(head)):
        frame = values_of(published, scenario, measure)
        for metric, cells in rows.items():
            values = frame.loc[metric].to_list() if metric in frame.index else [float("nan")]
            if not holds(cells[place], values):
                found.append(f"{published}, {scenario}, {metric}, {measure}: {cells[place]}, not {values}")
    return found


def test_the_tables_of_metrics_say_what_evaluate_says() -> None:
    assert [fault for head, rows in tables(RESULTS_PAGE.read_text()) for fault in faults(head, rows)] == []


@pytest.mark.parametrize("published", sorted(PUBLISHED.values()))
def test_every_metric_and_control_is_in_a_table(published: str) -> None:
    ranked = {
        metric
        for head, rows in tables(RESULTS_PAGE.read_text())
        for place, (name, scenario, measure) in enumerate(columns_of(head))
        for metric, cells in rows.items()
        if (name, scenario, measure) == (published, "fixed_target", "tau_w") and cells[place]
    }
    assert ranked == set(measured(published, "fixed_target").index)


def test_a_wrong_cell_is_found() -> None:
    head = ["fixed target", "272: top-1", "tau_w", INTERVAL, "fixed source, real7: regret"]
    right = {"gbc": ["0.647", "0.593", "0.46 to 0.71", "3.02"], "random": ["0.062", "0.000", "", "14.74"]}
    assert faults(head, right) == []
    assert faults(["metric", *head[1:]], {"gbc": ["9"] * 4}) == []  # not such a table
    for place, wrong in enumerate(("0.648", "-0.593", "0.46 to 0.72", "")):
        cells = [*right["gbc"][:place], wrong, *right["gbc"][place + 1 :]]
        assert len(faults(head, {"gbc": cells})) == 1
    assert len(faults(head, {"minus_n_classes": ["0.5", "", "", ""]})) == 2  # of targets alone, the columns but one


SENTENCES = [
    # What follows
    "(tau_w {A.parameters.tau_w:.3f} and {A.gflops.tau_w:.3f})",
    "the largest costs {A.parameters.regret:.2f} points of accuracy, chance {A.random.regret:.2f}.",
    "a tau_w of {A.own_miou.tau_w:.3f} and a regret of {A.own_miou.regret:.2f}. Only N-LEEP ranks better "
    "({A.nleep.tau_w:.3f}), and its first choice costs more ({A.nleep.regret:.2f}).",
    "costs {S.rank_mean.regret:.2f} points of mIoU, by GBC {S.gbc.regret:.2f}, by LogME {S.logme.regret:.2f}, by the "
    "number of training images {S.n_train_images.regret:.2f}, and by chance {S.random.regret:.2f}.",
    "loses {S.rank_mean.regret:.2f} of the {S.random.regret:.2f} points that chance loses, on `real7` "
    "{R.rank_mean.regret:.2f} of {R.random.regret:.2f},",
    "on architectures ({A.mean_rank_elsewhere.tau_w:.3f}) and `real7` ({R.mean_rank_elsewhere.tau_w:.3f}); "
    "on the 272 ({S.mean_rank_elsewhere.tau_w:.3f})",
    "(tau_w {R.one_fine_tuning.tau_w:.3f}, regret {R.one_fine_tuning.regret:.2f}), PACTran, H-score, SFDA and LogME "
    "reach {R.pactran.tau_w_share:.2f}, {R.h_score.tau_w_share:.2f}, {R.sfda.tau_w_share:.2f} and "
    "{R.logme.tau_w_share:.2f}, the default {R.rank_mean.tau_w_share:.2f}, GBC {R.gbc.tau_w_share:.2f}.",
    "(fidelity {S.logme.fidelity:.3f}) and gaps in GBC do not ({S.gbc.fidelity:.3f})",
    "gaps in OTCE ({R.otce.fidelity:.3f}) and LEEP ({R.leep.fidelity:.3f}) do, in H-score ({R.h_score.fidelity:.3f})",
    "on architectures ({A_targets.minus_n_classes.tau_w:.3f}) and `real7` ({R_targets.minus_n_classes.tau_w:.3f}), "
    "worse than four of six on the 272 ({S_targets.minus_n_classes.tau_w:.3f}).",
    "the wrong way ({S_targets.logme.tau_w:.3f}, {A_targets.logme.tau_w:.3f}, {R_targets.logme.tau_w:.3f} and "
    "{E_targets.logme.tau_w:.3f}).",
    "LogME's interval of tau_w is {S.logme.tau_w_low:.2f} to {S.logme.tau_w_high:.2f} on 17 targets and "
    "{R.logme.tau_w_low:.2f} to {R.logme.tau_w_high:.2f} on the 7",
    # Whether it holds for other sources
    "the best whichever source is left out ({S.logme.tau_w_min:.3f} to {S.logme.tau_w_max:.3f}).",
    "passes N-LEEP ({A.own_miou.tau_w_without_largest:.3f} against {A.nleep.tau_w_without_largest:.3f}), "
    "LogME passes GBC ({A.logme.tau_w_without_largest:.3f} against {A.gbc.tau_w_without_largest:.3f}), "
    "and lists by size are no longer worse than chance "
    "({A.parameters.tau_w_without_largest:.3f} and {A.gflops.tau_w_without_largest:.3f}).",
    "LogME passes GBC ({A.logme.tau_w_equal_size:.3f} against {A.gbc.tau_w_equal_size:.3f}). ImageNet accuracy falls "
    "to {A.own_miou.tau_w_equal_size:.3f}, further behind N-LEEP ({A.nleep.tau_w_equal_size:.3f}), "
    "and lists by size stay worse than chance "
    "({A.parameters.tau_w_equal_size:.3f} and {A.gflops.tau_w_equal_size:.3f}).",
    "PACTran has it in {R.pactran.n_first} of {R.pactran.n_left_out} cases "
    "(tau_w {R.pactran.tau_w_min:.3f} to {R.pactran.tau_w_max:.3f}), H-score and OTCE in {R.otce.n_first} each, "
    "LogME in {R.logme.n_first}.",
    # The project page
    "GBC ranks sources with a weighted Kendall tau of {S.gbc.tau_w:.3f}, LogME with {S.logme.tau_w:.3f}, and the "
    "default's first choice loses {S.rank_mean.regret:.2f} points of mIoU, chance {S.random.regret:.2f}.",
    "PACTran ({R.pactran.tau_w:.3f}), H-score ({R.h_score.tau_w:.3f}) and LogME ({R.logme.tau_w:.3f}) rank as well as "
    "one fine-tuning per source, and GBC ({R.gbc.tau_w:.3f}) does not.",
    # The study real7
    "top-1 of {R.one_fine_tuning.top1:.3f} and a tau_w of {R.one_fine_tuning.tau_w:.3f} "
    "({R.one_fine_tuning.tau_w_low:.2f} to {R.one_fine_tuning.tau_w_high:.2f})",
    "GBC ({R_targets.gbc.tau_w:.3f}), N-LEEP ({R_targets.nleep.tau_w:.3f}), their `rank_mean` "
    "({R_targets.rank_mean.tau_w:.3f}) and OTCE ({R_targets.otce.tau_w:.3f}) do well, and none beats the number of "
    "classes ({R_targets.minus_n_classes.tau_w:.3f}). H-score, like LogME, ranks the wrong way "
    "({R_targets.h_score.tau_w:.3f}).",
]


@pytest.mark.parametrize("words", SENTENCES)
def test_what_the_page_says_is_what_evaluate_says(words: str) -> None:
    assert words.format(**facts()) in TEXT


def test_the_verdicts_of_the_page() -> None:
    """Which metrics lead, and how many beat a control: what the sentences say beside their numbers."""

    def better(published: str, control: str, scenario: str = "fixed_target") -> list[str]:
        frame = measured(published, scenario)
        metrics = frame[frame["kind"] == "metric"]["tau_w"]
        return metrics.index[metrics > frame.loc[control, "tau_w"]].to_list()

    leaders = {name: robust(name).query("kind == 'metric'")["tau_w"].idxmax() for name in ("segmentation", "real7")}
    assert leaders == {"segmentation": "logme", "real7": "pactran"}
    assert better("architectures", "own_miou") == ["nleep"]
    assert better("architectures", "mean_rank_elsewhere") == better("real7", "mean_rank_elsewhere") == []
    assert len(better("segmentation", "mean_rank_elsewhere")) == 5
    targets = [better(name, "minus_n_classes", "fixed_source") for name in ("segmentation", "architectures", "real7")]
    assert [len(metrics) for metrics in targets] == [4, 0, 0]
    summary = robust("architectures").loc[["nleep", "mean_rank_elsewhere"]]
    assert summary.loc["nleep", "n_first"] == summary.loc["nleep", "n_left_out"]
    for column in ("tau_w_without_largest", "tau_w_equal_size"):
        assert robust("architectures").query("kind == 'metric'")[column].idxmax() == "nleep"
        assert summary.loc["mean_rank_elsewhere", column] > summary.loc["nleep", column]
    assert summary.loc["mean_rank_elsewhere", "tau_w_min"] > summary.loc["nleep", "tau_w_max"]
