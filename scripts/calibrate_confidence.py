"""Fit what a lead in score has meant for mIoU in the published studies, and judge that on studies that are left out.

    python scripts/calibrate_confidence.py --figure data_manifests/published/figures/confidence.png

Writes data_manifests/published/confidence.json, which `rank` reads. Studies are the 272 pairs and every run folder in
data_manifests/published; another run of a study (NAME_SUFFIX, such as real7_rerun) is the same study. Image
classification is never fitted: it is a further test.
"""

import argparse
import io
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from seg_transfer.console import console_logging, plain_console
from seg_transfer.evaluation import (
    SCRATCH,
    fit_slope,
    leave_one_study_out,
    reliability,
    rival_leads,
    win_probability,
    with_rank_mean,
)
from seg_transfer.metrics import METRICS
from seg_transfer.reports.drawing import BLUE, GRAY, GREEN, ORANGE, PURPLE, RED, Plot, picture
from seg_transfer.reports.tables import plain_table
from seg_transfer.resources import shipped
from seg_transfer.store.atomic import write_text
from seg_transfer.store.confidence import CONFIDENCE_FILE
from seg_transfer.store.published import published_pairs, published_studies

SCENARIO = "fixed_target"
FURTHER = "architectures"
DIGITS = 4
N_COLUMNS = 3
Studies = Mapping[str, list[pd.DataFrame]]
Leads = dict[str, pd.DataFrame]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the file to write; the shipped one by default")
    parser.add_argument("--figure", type=Path, help="draw the reliability diagram into this PNG file")
    arguments = parser.parse_args()
    by_metric = leads_by_metric(runs_by_study())
    fitted = calibration(by_metric)
    write_text(arguments.out or shipped("data_manifests/published") / Path(CONFIDENCE_FILE).name, as_json(fitted))
    console = plain_console()
    rows = [[name, *map(cell, row.values())] for name, row in fitted.items()]
    console.print(plain_table("Slopes", ["metric", "slope", "rival pairs", "studies", "error"], rows, "metric"))
    columns = ["metric", "left out", "slope", "said", "won", "error", "by chance", "first: said", "first: won"]
    rows = [list(map(cell, row.values())) for row in left_out_rows(by_metric)]
    console.print(plain_table("Leads of all rivals, and of the first over the second", columns, rows, "metric"))
    if arguments.figure:
        arguments.figure.parent.mkdir(parents=True, exist_ok=True)
        arguments.figure.write_bytes(few_colors(picture(diagram(by_metric)).png))


def runs_by_study() -> dict[str, list[pd.DataFrame]]:
    """Return study -> the pairs of each of its runs."""
    runs: dict[str, list[pd.DataFrame]] = {}
    for name in ("segmentation", *sorted(published_studies(), key=len)):
        pairs, _ = published_pairs(name)
        study = next((known for known in runs if name.startswith(f"{known}_")), name)
        runs.setdefault(study, []).append(pairs[pairs["source"] != SCRATCH])
    return runs


def leads_by_metric(studies: Studies) -> dict[str, Leads]:
    """Return metric -> study -> leads, for the metrics and studies that have any.

    The runs of a study share their groups: a target that was fine-tuned in two runs counts as one.
    """
    found = {name: {study: leads_of(runs, name) for study, runs in studies.items()} for name in sorted(METRICS)}
    held = {name: {study: leads for study, leads in of.items() if len(leads)} for name, of in found.items()}
    return {name: of for name, of in held.items() if of}


def leads_of(runs: Iterable[pd.DataFrame], metric: str) -> pd.DataFrame:
    parts = [
        rival_leads(pairs, SCENARIO, metric).assign(run=run)
        for run, pairs in enumerate(runs)
        if metric in with_rank_mean(pairs, SCENARIO)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def calibration(by_metric: Mapping[str, Leads]) -> dict[str, dict[str, Any]]:
    """Return metric -> slope, n_rival_pairs, studies, and ece: the mean error on left-out studies; None with one."""
    fitted = {}
    for metric, leads in by_metric.items():
        _, error = leave_one_study_out(leads)
        fitted[metric] = {
            "slope": round(fit_slope(leads), DIGITS),
            "n_rival_pairs": sum(map(len, leads.values())),
            "studies": sorted(leads),
            "ece": None if math.isnan(error) else round(error, DIGITS),
        }
    return fitted


def as_json(fitted: Mapping[str, Mapping[str, Any]]) -> str:
    """Write one line per metric."""
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in fitted.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def left_out_rows(by_metric: Mapping[str, Leads]) -> list[dict[str, Any]]:
    """List the errors on left-out studies, of the metrics with several; then those on image classification."""
    further = leads_by_metric({FURTHER: [published_pairs(FURTHER)[0]]})
    rows = []
    for metric, leads in by_metric.items():
        frame, _ = leave_one_study_out(leads)
        if frame.empty:
            continue
        tested = {**leads, **further.get(metric, {})}
        if FURTHER in tested:
            frame = pd.concat([frame, leave_one_study_out(tested)[0].tail(1)])
        for row in frame.to_dict("records"):
            errors = {name: row[name] for name in ("study", "slope", "predicted", "won", "ece", "ece_by_chance")}
            rows.append({"metric": metric, **errors, **first_two(tested[row["study"]], row["slope"])})
    return rows


def first_two(leads: pd.DataFrame, slope: float) -> dict[str, float]:
    """Compare predicted with observed for the best score over the second alone: the mean over groups and runs."""
    rows = pd.DataFrame([_lead_of_the_first(members) for _, members in leads.groupby(["group", "run"])])
    predicted = [win_probability(lead, slope) for lead in rows["lead"]]
    return {"first_predicted": float(np.mean(predicted)), "first_won": float(rows["won"].mean())}


def _lead_of_the_first(leads: pd.DataFrame) -> pd.Series:
    """Return the row of the best score and the second of a group: the smallest lead of the one that leads most."""
    best = leads.loc[leads["lead"].idxmax(), "first"]
    own = leads[(leads["first"] == best) | (leads["second"] == best)]
    return own.loc[own["lead"].idxmin()]


def diagram(by_metric: Mapping[str, Leads]) -> Plot:
    """Draw observed against predicted shares on left-out studies, for the metrics that all studies have."""
    n_studies = max(map(len, by_metric.values()))
    of_all = {metric: leads for metric, leads in by_metric.items() if len(leads) == n_studies}
    caption = "Share of rivals whose higher score had the higher mIoU, against the share predicted from other studies."
    return Plot("confidence", "What a lead means", caption, caption, partial(_draw, of_all))


def few_colors(png: bytes) -> bytes:
    """Store an image with a palette, at a third of its size."""
    smaller = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


def _draw(by_metric: Mapping[str, Leads]) -> Figure:
    n_rows = math.ceil(len(by_metric) / N_COLUMNS)
    figure = Figure(figsize=(2.3 * N_COLUMNS, 2.3 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, N_COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    studies = sorted({study for leads in by_metric.values() for study in leads})
    colors = dict(zip(studies, itertools.cycle((BLUE, ORANGE, GREEN, RED, PURPLE)), strict=False))
    for axes, (metric, leads) in zip(panels, by_metric.items(), strict=False):
        axes.plot([0.3, 1], [0.3, 1], color=GRAY, linewidth=0.8, linestyle="--")
        axes.tick_params(labelbottom=True)
        axes.set(title=metric, xlim=(0.45, 1.0), ylim=(0.0, 1.05))
        for row in leave_one_study_out(leads)[0].to_dict("records"):
            _draw_bins(axes, reliability(leads[row["study"]], row["slope"]), row["study"], colors[row["study"]])
    for axes in panels[len(by_metric) :]:
        axes.set_axis_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(studies))
    figure.supxlabel("predicted from the other studies", fontsize=9)
    figure.supylabel("share with the higher mIoU", fontsize=9)
    return figure


def _draw_bins(axes: Axes, bins: pd.DataFrame, study: str, color: str) -> None:
    """Draw a point per bin, whose area grows with its number of rival pairs, and its interval."""
    below, above = bins["won"] - bins["won_low"], bins["won_high"] - bins["won"]
    errors = np.clip([below, above], 0, None)
    axes.errorbar(bins["predicted"], bins["won"], errors, fmt="none", ecolor=color, linewidth=0.8, alpha=0.6)
    sizes = 4 + bins["n"] / 6
    label = f"{study} ({round(bins['n'].mean())} pairs per bin)"
    axes.scatter(bins["predicted"], bins["won"], sizes, color=color, label=label, zorder=3, linewidths=0)


def cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.3f}" if isinstance(value, float) else "n/a" if value is None else str(value)


if __name__ == "__main__":
    with console_logging():
        main()
