"""Tables of a report: a frame, and the heading, format and meaning of each column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from seg_transfer.reports.performance import MIOU, Performance

EMPTY = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """The presentation of a column.

    Attributes:
        heading: Heading of the column.
        form: Format specification of its numbers, as for `format`; "" for text.
        meaning: Description of the values, with unit and range.
    """

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
    "kind": Column("kind", "", "metric; control, which uses no features; or ceiling"),
    "scenario": Column(
        "scenario", "", "fixed_target ranks the sources of a target, fixed_source the targets of a source"
    ),
    "score": Column("score", "#.4g", "score of the metric, higher is better"),
    "standard_error": Column("std. error", "#.2g", "standard error of the score: jackknife over groups of images"),
    "score_rank": Column("rank", "d", "rank by the score in the group, 1 is best"),
    "linear_miou": Column(
        "linear mIoU",
        ".3f",
        "mIoU in [0, 1] of a linear head on the features, without fine-tuning, on images that it was not fitted on",
    ),
    "place": Column("place", "d", "place in the race, 1 is best; empty for sources that did not race"),
    "held_out_miou": Column(
        "mIoU", ".3f", "mIoU on labeled images that it was not trained on, where it was judged last, in [0, 1]"
    ),
    "held_out_low": Column("from", ".3f", "lower end of its 95 % percentile-bootstrap interval over images"),
    "held_out_high": Column("to", ".3f", "upper end of its 95 % percentile-bootstrap interval over images"),
    "raced_steps": Column("steps", "d", "steps of the schedule after which it was judged last"),
    "rank_by_score": Column("by score", "d", "rank by the score, within its family of networks; 1 is best"),
    "left": Column("left", "", "when or why it left the race, or did not enter it"),
    "n_items": Column("of", "d", "number of items ranked in the group"),
    "miou": Column("mIoU", ".3f", _MIOU),
    "miou_rank": Column("mIoU rank", "d", "rank by mIoU in the group, 1 is best"),
    "n_target_classes": Column("classes", "d", "number of classes of the target"),
    "chosen": Column("choose", "", "highest score; several items where scores are equal"),
    "tied": Column("tied with it", "", "sources that the standard errors do not separate from the first"),
    "probability": Column("P(best)", ".2f", "probability in [0, 1] that the chosen is the best"),
    "agreeing": Column("metrics agree", "", "metrics that choose the same item, of all metrics"),
    "second": Column("second", "", "second highest score"),
    "third": Column("third", "", "third highest score"),
    "chosen_miou": Column("its mIoU", ".3f", f"{_MIOU}, of the chosen"),
    "best": Column("actual best", "", "best by mIoU"),
    "best_miou": Column("best mIoU", ".3f", f"{_MIOU}, of the best"),
    "of_best": Column("of best", ".3f", "mIoU of the chosen over the best mIoU, fraction in [0, 1]"),
    "scratch_miou": Column("scratch", ".3f", f"{_MIOU} from the common initialization, without a source"),
    "seconds": Column("seconds", ".1f", "wall time, seconds"),
    "n_groups": Column("groups", "d", "number of groups evaluated"),
    "n_seeds": Column("seeds", "d", "number of fine-tunings of every pair, each with its own seed"),
    "sd": Column("sd of mIoU", ".4f", "standard deviation of mIoU between seeds of a pair, pooled over pairs"),
    "fraction_distinguishable": Column(
        "distinguished",
        ".3f",
        "share of rivals, in [0, 1], whose means over seeds differ by more than 1.96 standard errors of seeds",
    ),
    "top1": Column("top-1", ".3f", "share of groups in which the first of the ranking is the best, in [0, 1]"),
    "tau_w": Column("tau_w", ".3f", "weighted Kendall tau of ranking and mIoU, mean over groups, in [-1, 1]"),
    "rel_at_1": Column("Rel@1", ".3f", "mIoU of the chosen over the best, mean over groups, in [0, 1]"),
    "kendall": Column("Kendall", ".3f", "Kendall tau-b, mean over groups, in [-1, 1]"),
    "pearson": Column("Pearson", ".3f", "Pearson correlation, mean over groups, in [-1, 1]"),
    "regret": Column(
        "regret", ".4f", "best mIoU minus that of the chosen, fraction in [0, 1], mean over groups; lower is better"
    ),
    "regret_points": Column(
        "regret", ".2f", "best mIoU minus that of the chosen, in points (100 x), mean over groups; lower is better"
    ),
    "fidelity": Column(
        "fidelity", ".3f", "correlation of score gaps with mIoU gaps over all pairs of items of a group, in [-1, 1]"
    ),
    "top1_share": Column("top-1 of ceiling", ".2f", "top-1 over that of the ceiling, one fine-tuning per pair"),
    "tau_w_share": Column("tau_w of ceiling", ".2f", "tau_w over that of the ceiling, one fine-tuning per pair"),
    "variant": Column(
        "sources",
        "",
        "all; without_largest: without the largest, about a third by parameters; equal_size: every third by parameters "
        "apart; leave_one_source_out",
    ),
    "left_out": Column("without", "", "source that was left out"),
    "tau_w_without_largest": Column(
        "without largest",
        ".3f",
        "tau_w without the largest sources: about a third by parameters, sizes within 5 % count as one",
    ),
    "tau_w_equal_size": Column(
        "equal size", ".3f", "tau_w within thirds by number of parameters; sizes within 5 % count as one"
    ),
    "beaten_by": Column("beaten by", "", "controls with a higher tau_w"),
    "n_too_small": Column("too small", "d", "number of groups left out because they have fewer than two items"),
    "n_tau_undefined": Column("undefined", "d", "number of groups without a tau_w: constant scores or mIoU"),
    "what": Column("what", "", "what was computed"),
    "count": Column("count", "d", "how many"),
    "mean_seconds": Column("mean s", ".1f", "mean wall time, seconds"),
    "total_seconds": Column("total s", ".1f", "total wall time, seconds"),
    "setting": Column("setting", "", "dotted name of the setting"),
    "value": Column("value", "", "its value"),
    "content_key": Column("content key", "", "sha256 of everything that determines the number"),
    "note": Column("note", "", "remark on how the score was computed"),
    "config": Column("network", "", "model config, folder, or name of the network"),
    "checkpoint": Column("checkpoint", "", "weights file that the study names"),
    "initialisation": Column("started from", "", "random, or sha256 of the ImageNet checkpoint"),
    "steps": Column("steps", "d", "optimization steps"),
    "seed": Column("seed", "d", "seed"),
    "own_miou": Column("own mIoU", ".3f", "mIoU of the source on its own eval split, fraction in [0, 1]"),
    "sha256": Column("sha256", "", "sha256 of the weights file"),
    "title": Column("title", "", "title of the dataset"),
    "domain": Column("domain", "", "domain of the dataset"),
    "is_target": Column("target", "", "whether it is a target of the study"),
    "n_classes": Column("classes", "d", "number of classes"),
    "classes": Column("class names", "", "names of the classes, in order"),
    "n_images": Column("images", "d", "number of images of the low-shot train split"),
    "n_train_images": Column("images", "d", "number of images it was trained on"),
    "n_observations": Column("pixels", "d", "number of pixels in the sample"),
    "family": Column("family", "", "architecture, and the width and strides of the features that are read"),
    "parameters": Column("parameters", ",.0f", "number of parameters of the network"),
    "gflops": Column(
        "GFLOPs",
        ",.1f",
        "billions of floating-point operations per image of 512 x 512 pixels, or of the one size that the network "
        "takes; a multiplication with an addition counts as two",
    ),
    "license": Column("license", "", "license of the weights, as the study states it"),
    "licence": Column("license", "", "license of the dataset"),
    "citation": Column("citation", "", "publication that describes the dataset"),
    "notes": Column("notes", "", "notes of the manifest"),
    "first": Column("first", "", "first metric"),
    "second_metric": Column("second", "", "second metric"),
    "wins": Column("wins", "d", "number of groups in which the first has the higher tau_w"),
    "ties": Column("ties", "d", "number of groups in which both have the same tau_w"),
    "losses": Column("losses", "d", "number of groups in which the first has the lower tau_w"),
    "mean_difference": Column("difference", "+.3f", "tau_w of the first minus that of the second, mean over groups"),
    "share_first_better": Column(
        "draws won", ".3f", "share of bootstrap draws in which the first is better, in [0, 1]"
    ),
    "rank": Column("rank", "d", "rank among the metrics by tau_w, 1 is best"),
    "n_left_out": Column("left out", "d", "number of datasets or sources that were left out, one at a time"),
    "n_first": Column("first in", "d", "number of those without which the metric is the best by tau_w"),
    "subset_size": Column("sources", "d", "number of sources in a pool"),
    "n_subsets": Column("pools", "d", "number of pools of sources"),
    "stability_group": Column(
        "to the target", ".3f", "Kendall tau of metric rankings that differ in the target, in [-1, 1]"
    ),
    "stability_items": Column("to the sources", ".3f", "the same, for a different pool of sources"),
    "stability_measure": Column("to the measure", ".3f", "the same, for a different evaluation measure"),
    "first_better": Column("first better", ".3f", "share of setups in which the first metric is better, in [0, 1]"),
    "equal": Column("equal", ".3f", "share of setups in which both are equally good, in [0, 1]"),
    "second_better": Column("second better", ".3f", "share of setups in which the second metric is better, in [0, 1]"),
    "n_setups": Column("setups", "d", "number of setups with a result"),
    "measure": Column("measure", "", "evaluation measure that is compared"),
    "winner": Column("winner", "", "source with the highest score with this number of images"),
    "tau_w_to_full": Column("tau_w to full", ".3f", "weighted tau of this ranking and that of all images, in [-1, 1]"),
    "n_tied": Column("tied", "d", "number of sources tied for first, the winner included"),
    "class_a": Column("class", "", "a class of the target"),
    "class_b": Column("other class", "", "another class of the target"),
    "overlap": Column("overlap", ".3f", "Bhattacharyya coefficient in [0, 1]; 1: indistinguishable"),
}
for _name in ("tau_w", "top1", "rel_at_1", "kendall", "pearson", "regret", "regret_points", "fidelity", "rank"):
    _base_column = COLUMNS[_name]
    _form = ".4f" if _name == "regret" else ".2f"
    COLUMNS = {
        **COLUMNS,
        f"{_name}_low": Column("from", _form, f"{_base_column.heading}: lower end of its {_INTERVAL}"),
        f"{_name}_high": Column("to", _form, f"{_base_column.heading}: upper end of its {_INTERVAL}"),
        f"{_name}_min": Column("min", _base_column.form, f"{_base_column.heading}: minimum with one left out"),
        f"{_name}_max": Column("max", _base_column.form, f"{_base_column.heading}: maximum with one left out"),
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
        name: Stem of its files, and anchor in the page.
        title: Caption of the table.
        frame: Rows of the table; a column that COLUMNS does not list holds the scores of a metric, or text.
        page: The part that the page shows; None means all of it.
        page_title: Caption of that part, if it differs.
        measured: What the table calls mIoU in its captions and columns.
    """

    name: str
    title: str
    frame: pd.DataFrame
    page: pd.DataFrame | None = None
    page_title: str = ""
    measured: Performance = MIOU

    @property
    def heading(self) -> str:
        """The caption of the whole table."""
        return self.measured.caption(self.title)

    @property
    def shown(self) -> pd.DataFrame:
        """The rows and columns that the page shows."""
        return self.frame if self.page is None else self.page

    @property
    def caption(self) -> str:
        """The caption of the part that the page shows."""
        return self.measured.caption(self.page_title or self.title)

    def columns(self) -> dict[str, Column]:
        """Return the name and presentation of every column that the page shows."""
        return self.columns_of(self.shown)

    def columns_of(self, frame: pd.DataFrame) -> dict[str, Column]:
        """Return the name and presentation of every column of the table's frame, or of the part that the page shows."""
        words = self.measured.words
        columns = {str(name): column_of(str(name), frame[name]) for name in frame}
        return {
            name: replace(column, heading=words(column.heading), meaning=words(column.meaning))
            for name, column in columns.items()
        }


def column_of(name: str, values: pd.Series[Any]) -> Column:
    """Return the presentation of a column; an unlisted column holds scores of the metric of that name, or text.

    Args:
        name: Name of the column.
        values: Its values, which decide whether an unlisted column is numeric.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    numeric = pd.api.types.is_numeric_dtype(values)
    return Column(name, "#.4g" if numeric else "", f"score of {name}, higher is better" if numeric else name)


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN or NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def cell_text(value: object, form: str) -> str:
    """Format a cell for a reader: with a typographic minus sign, and a dash if it is empty.

    Args:
        value: A number, text, or list of texts.
        form: As in `Column`.

    Example:
        >>> cell_text(-0.5409, ".3f"), cell_text(float("nan"), ".3f"), cell_text(["a", "b"], "")
        ('−0.541', '–', 'a, b')
    """
    if is_missing(value) or value == "":
        return EMPTY
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if not form:
        return str(value)
    number = int(value) if form == "d" else float(value)  # type: ignore[call-overload,arg-type]
    return format(number, form).rstrip(".").replace("-", "\N{MINUS SIGN}")
