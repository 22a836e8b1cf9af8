"""Tables of a report: a frame, and how each of its columns is called, written and explained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """How a column is shown: heading, format ("" is text, else one of `format`), and its meaning with its unit."""

    heading: str
    form: str
    meaning: str


_MIOU = "mIoU on the target's eval split after fine-tuning, fraction in [0, 1]"
_INTERVAL = "95 % percentile-bootstrap interval over groups"
COLUMNS: Mapping[str, Column] = {
    "source": Column("source", "", "name of the source model"),
    "target": Column("target", "", "name of the target dataset"),
    "dataset": Column("dataset", "", "name of the dataset"),
    "metric": Column("metric", "", "transferability metric, or control"),
    "kind": Column("kind", "", "metric, or control: a ranking that looks at no feature"),
    "scenario": Column(
        "scenario", "", "fixed_target ranks the sources of a target, fixed_source the targets of a source"
    ),
    "score": Column("score", "#.4g", "score of the metric, higher is better"),
    "standard_error": Column("std. error", "#.2g", "of the score: jackknife over groups of images"),
    "score_rank": Column("rank", "d", "rank by the score in the group, 1 is best"),
    "n_items": Column("of", "d", "items ranked in the group"),
    "miou": Column("mIoU", ".3f", _MIOU),
    "miou_rank": Column("mIoU rank", "d", "rank by mIoU in the group, 1 is best"),
    "n_target_classes": Column("classes", "d", "classes of the target"),
    "chosen": Column("choose", "", "first by the score; several where the scores are equal"),
    "tied": Column("tied with it", "", "sources that the standard errors cannot tell from the first"),
    "probability": Column("best with", ".2f", "chance in [0, 1] that the chosen is the best, by the standard errors"),
    "agreeing": Column("metrics agree", "", "metrics that put the same one first, of all metrics"),
    "second": Column("second", "", "second by the score"),
    "third": Column("third", "", "third by the score"),
    "chosen_miou": Column("its mIoU", ".3f", f"{_MIOU}, of the chosen"),
    "best": Column("truly best", "", "best by mIoU"),
    "best_miou": Column("best mIoU", ".3f", f"{_MIOU}, of the best"),
    "of_best": Column("of best", ".3f", "mIoU of the chosen over the best mIoU, fraction in [0, 1]"),
    "scratch_miou": Column("scratch", ".3f", f"{_MIOU}, started without a source"),
    "seconds": Column("seconds", ".1f", "wall time, seconds"),
    "n_groups": Column("groups", "d", "groups evaluated"),
    "n_seeds": Column("seeds", "d", "fine-tunings of every pair, each with another seed"),
    "sd": Column("sd of mIoU", ".4f", "standard deviation of mIoU between seeds of a pair, pooled over pairs"),
    "told_apart": Column(
        "told apart", ".3f", "share of rivals whose means over seeds differ by more than 1.96 standard errors of seeds"
    ),
    "top1": Column("top-1", ".3f", "share of groups in which the first by the ranking is the best, in [0, 1]"),
    "tau_w": Column("tau_w", ".3f", "weighted Kendall tau of ranking and mIoU, mean over groups, in [-1, 1]"),
    "rel_at_1": Column("Rel@1", ".3f", "mIoU of the chosen over the best, mean over groups, in [0, 1]"),
    "kendall": Column("Kendall", ".3f", "Kendall tau-b, mean over groups, in [-1, 1]"),
    "pearson": Column("Pearson", ".3f", "correlation coefficient, mean over groups, in [-1, 1]"),
    "beaten_by": Column("beaten by", "", "controls with a higher tau_w"),
    "n_too_small": Column("too small", "d", "groups left out because they hold fewer than two items"),
    "n_tau_undefined": Column("undefined", "d", "groups without a tau_w: constant scores or mIoU"),
    "what": Column("what", "", "what was computed"),
    "count": Column("count", "d", "how many"),
    "mean_seconds": Column("mean s", ".1f", "mean wall time of one, seconds"),
    "total_seconds": Column("total s", ".1f", "wall time of all, seconds"),
    "setting": Column("setting", "", "dotted name of the setting"),
    "value": Column("value", "", "its value"),
    "content_key": Column("content key", "", "sha256 over all that decides the number"),
    "note": Column("note", "", "what a reader of the score should know"),
    "config": Column("network", "", "model config, folder, or name of the network"),
    "checkpoint": Column("checkpoint", "", "weights that were brought along"),
    "initialisation": Column("started from", "", "random, or sha256 of the ImageNet checkpoint"),
    "steps": Column("steps", "d", "optimisation steps"),
    "seed": Column("seed", "d", "seed"),
    "own_miou": Column("own mIoU", ".3f", "mIoU of the source on its own dataset's eval split, fraction in [0, 1]"),
    "sha256": Column("sha256", "", "of the weights file"),
    "title": Column("title", "", "what the dataset is"),
    "domain": Column("domain", "", "domain of the dataset"),
    "is_target": Column("target", "", "whether the study has it as a target"),
    "n_classes": Column("classes", "d", "number of classes"),
    "classes": Column("class names", "", "names of the classes, in order"),
    "n_images": Column("images", "d", "images of the low-shot train split"),
    "n_train_images": Column("images", "d", "images it was trained on"),
    "n_observations": Column("pixels", "d", "pixels in the sample"),
    "licence": Column("licence", "", "licence of the dataset"),
    "citation": Column("citation", "", "where the dataset comes from"),
    "notes": Column("notes", "", "notes of the manifest"),
    "first": Column("first", "", "the one metric"),
    "second_metric": Column("second", "", "the other metric"),
    "wins": Column("wins", "d", "groups in which the first has the higher tau_w"),
    "ties": Column("ties", "d", "groups in which both have the same tau_w"),
    "losses": Column("losses", "d", "groups in which the first has the lower tau_w"),
    "mean_difference": Column("difference", "+.3f", "tau_w of the first minus that of the second, mean over groups"),
    "share_first_better": Column(
        "draws won", ".3f", "share of bootstrap draws in which the first is better, in [0, 1]"
    ),
    "rank": Column("place", "d", "place among the metrics by tau_w, 1 is best"),
    "n_left_out": Column("left out", "d", "datasets left out in turn"),
    "n_first": Column("first in", "d", "with how many datasets left out the metric is the best by tau_w"),
    "subset_size": Column("sources", "d", "sources in a pool"),
    "n_subsets": Column("pools", "d", "pools of sources"),
    "stability_group": Column(
        "to the target", ".3f", "Kendall tau of metric rankings that differ in the target, in [-1, 1]"
    ),
    "stability_items": Column("to the sources", ".3f", "the same, differing in the pool of sources"),
    "stability_measure": Column("to the measure", ".3f", "the same, differing in the evaluation measure"),
    "first_better": Column("first better", ".3f", "share of set-ups in which the first metric is better, in [0, 1]"),
    "equal": Column("equal", ".3f", "share of set-ups in which both are as good, in [0, 1]"),
    "second_better": Column("second better", ".3f", "share of set-ups in which the second is better, in [0, 1]"),
    "n_setups": Column("set-ups", "d", "set-ups with an outcome"),
    "measure": Column("measure", "", "evaluation measure that is compared"),
    "winner": Column("winner", "", "first with so many images"),
    "tau_w_to_full": Column("tau_w to full", ".3f", "weighted tau of the ranking and that of all images, in [-1, 1]"),
    "n_tied": Column("tied", "d", "sources tied for first"),
    "class_a": Column("class", "", "a class of the target"),
    "class_b": Column("other class", "", "another class of the target"),
    "overlap": Column("overlap", ".3f", "Bhattacharyya overlap in [0, 1]; 1 cannot be told apart"),
}
for _name in ("tau_w", "top1", "rel_at_1", "kendall", "pearson", "rank"):
    _own = COLUMNS[_name]
    COLUMNS = {
        **COLUMNS,
        f"{_name}_low": Column("from", ".2f", f"{_own.heading}: lower end of its {_INTERVAL}"),
        f"{_name}_high": Column("to", ".2f", f"{_own.heading}: upper end of its {_INTERVAL}"),
        f"{_name}_min": Column("least", _own.form, f"{_own.heading}: the least with one dataset left out"),
        f"{_name}_max": Column("most", _own.form, f"{_own.heading}: the most with one dataset left out"),
    }
COLUMNS = {
    **COLUMNS,
    "difference_low": Column("from", "+.3f", f"lower end of the paired {_INTERVAL}"),
    "difference_high": Column("to", "+.3f", f"upper end of the paired {_INTERVAL}"),
}


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        name: Stem of its files, and its anchor in the page.
        title: Its caption.
        frame: Its rows; a column that COLUMNS does not know is the score of the metric of that name, or text.
        page: The part of it that the page has room for; None is all.
        page_title: The caption of that part, where it is another.
    """

    name: str
    title: str
    frame: pd.DataFrame
    page: pd.DataFrame | None = None
    page_title: str = ""

    @property
    def shown(self) -> pd.DataFrame:
        """The rows and columns of the page."""
        return self.frame if self.page is None else self.page

    @property
    def caption(self) -> str:
        """The title of what the page shows."""
        return self.page_title or self.title

    def columns(self) -> dict[str, Column]:
        """Name -> how it is shown, of the columns that the page shows."""
        return {str(name): column_of(str(name), self.shown[name]) for name in self.shown}


def column_of(name: str, values: pd.Series[Any]) -> Column:
    """How a column is shown; one that is not known holds scores of the metric that it is named after, or text."""
    if name in COLUMNS:
        return COLUMNS[name]
    numeric = pd.api.types.is_numeric_dtype(values)
    return Column(name, "#.4g" if numeric else "", f"score of {name}, higher is better" if numeric else name)


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN or NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def cell_text(value: object, form: str) -> str:
    """A cell as it is read; a minus sign stands for minus, an empty cell is a dash.

    >>> cell_text(-0.5409, ".3f"), cell_text(float("nan"), ".3f"), cell_text(["a", "b"], "")
    ('−0.541', '–', 'a, b')
    """
    if is_missing(value) or value == "":
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if not form:
        return str(value)
    number = int(value) if form == "d" else float(value)  # type: ignore[call-overload,arg-type]
    return format(number, form).rstrip(".").replace("-", "\N{MINUS SIGN}")
