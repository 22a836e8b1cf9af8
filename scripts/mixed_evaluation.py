"""Evaluate the bank of several architectures: which reading compares across families?

    python scripts/mixed_evaluation.py --collect configs/studies/mixed.yaml --data-root DATA
    python scripts/mixed_evaluation.py --figure data_manifests/published/mixed/readings.png

The first copies scores under every reading, and mIoU of two seeds, from the run folders of the studies into
`data_manifests/published/mixed`, and evaluates them there, which takes minutes. The second prints what was found, as
Markdown: regret in points of mIoU, tau_w and top-1 of every metric under every reading, with all networks in one list
(across) and a list per family (within), and what a reading changes against the last layer's input. Intervals are
two-way: targets and networks are drawn.
"""

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from seg_transfer.console import console_logging
from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import ACROSS, CHANCE, SCRATCH, WITHIN, two_way_draws, two_way_interval
from seg_transfer.reports.drawing import BLUE, GREEN, ORANGE, PURPLE, Plot, picture
from seg_transfer.resources import shipped
from seg_transfer.selection.readings import METRICS_OF_READINGS, VARIANTS, stored_readings
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.store.network_costs import read_costs
from seg_transfer.store.source_card import read_source_card
from seg_transfer.store.tables import PERFORMANCE, READINGS, described_schema, performance_file, read_rows, write_rows
from seg_transfer.study.networks import weights_key
from seg_transfer.study.run import Run, open_run

FOLDER = shipped("data_manifests/published/mixed")
SEEDS = (0, 1)
LAST, NO_READING = "last", "none"
READING_NAMES = (LAST, "stages", "coarse", "encoder")
WITHOUT_FEATURES, LISTS = ("leep", "nce"), ("own_miou", "parameters")
OF_FEATURES = [name for name in (*METRICS_OF_READINGS, *VARIANTS) if name not in (*WITHOUT_FEATURES, "gbc_64")]
OF_QUESTION = ("gbc", "logme", "h_score", "nleep", "knn", "ridge_probe")
COMBINED = {"default": ("gbc", "logme"), "three": ("gbc", "logme", "ridge_probe")}
STANDARDIZED = ", standardized"
Rows = list[dict[str, Any]]
FAMILIES = {"hrnet": BLUE, "lite0": ORANGE, "unet": GREEN, "segformer": PURPLE}

TUNED = described_schema(
    [
        ("source", pa.string(), "name of the source model; scratch is the start of its family"),
        ("family", pa.string(), "architecture of the source"),
        ("target", pa.string(), "name of the target dataset"),
        ("seed", pa.int64(), "seed of the fine-tuning"),
        ("miou", pa.float64(), "mIoU after fine-tuning, a fraction in [0, 1]"),
        ("own_miou", pa.float64(), "mIoU of the source on its own dataset; missing for scratch"),
        ("parameters", pa.int64(), "number of parameters of the source; missing for scratch"),
    ]
)


EVALUATION = described_schema(
    [
        ("part", pa.string(), "across: all networks in one list; within: a list per family"),
        ("reading", pa.string(), "last, stages, coarse or encoder; none where no features are read"),
        ("metric", pa.string(), "name of the metric, the combination, the list or chance"),
        (
            "measure",
            pa.string(),
            "regret in points of mIoU, top1, tau_w; change: of regret against the reading last, points; over_chance: "
            "regret minus that of chance, points",
        ),
        ("value", pa.float64(), "of the bank as it is, mean over targets, or over targets and families"),
        ("low", pa.float64(), "2.5 percentile over draws of targets and of networks"),
        ("high", pa.float64(), "97.5 percentile"),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--collect", type=Path, metavar="STUDY", help="copy the results of the study's run folders first"
    )
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--run-folder", type=Path)
    parser.add_argument("--figure", type=Path, help="write the figure to this PNG file")
    arguments = parser.parse_args()
    if arguments.collect is not None:
        collect(open_run(arguments.collect, arguments.data_root, arguments.run_folder))
    found, tuned = read_rows(FOLDER / "evaluation.parquet", EVALUATION), pd.read_parquet(FOLDER / "performance.parquet")
    for title, columns, rows in (*tables(found), family_table(tuned)):
        print(f"\n{title}\n\n{markdown(columns, rows)}")
    if arguments.figure is not None:
        with replaced_atomically(arguments.figure) as temporary:
            temporary.write_bytes(picture(figure(published())).png)


def collect(run: Run) -> None:
    """Copy scores and mIoU from run folders into the published files, and evaluate them."""
    write_rows(FOLDER / "scores.parquet", READINGS, stored_readings(run))
    write_rows(FOLDER / "performance.parquet", TUNED, list(_fine_tunings(run)))
    write_rows(FOLDER / "evaluation.parquet", EVALUATION, evaluated(published()))


def _fine_tunings(run: Run) -> Iterator[dict[str, Any]]:
    started = set()
    for entry, target in run.pairs:
        assert entry.config_file is not None
        folder, family = entry.config_file.parents[2], family_of(entry.name)
        costs = read_costs(run.folder, entry.name, weights_key(run, entry))
        facts = {
            "own_miou": read_source_card(entry.config_file).miou,
            "parameters": None if costs is None else costs.parameters,
        }
        named = {"source": entry.name, "family": family, "target": target}
        yield from ({**named, **row, **facts} for row in _runs_of(folder, entry.config_file.parent.name, target))
        if (family, target) not in started:
            started.add((family, target))
            named["source"] = f"{family}_{SCRATCH}"
            yield from ({**named, **row} for row in _runs_of(folder, SCRATCH, target))


def _runs_of(folder: Path, stored: str, target: str) -> Rows:
    """Return seed and mIoU of the fine-tunings of one pair in the run folder of a family."""
    by_seed = {row["seed"]: row["miou"] for row in read_rows(performance_file(folder, stored, target), PERFORMANCE)}
    missing = [seed for seed in SEEDS if seed not in by_seed]
    if missing:
        raise ResultsError(f"{folder}: {stored} -> {target} lacks seed {missing[0]}; run finetune-pairs")
    return [{"seed": seed, "miou": by_seed[seed]} for seed in SEEDS]


def family_of(source: str) -> str:
    """Return the family in a name such as ``unet_camvid``."""
    return source.partition("_")[0]


def published() -> pd.DataFrame:
    """Read the pairs: source, target, family, miou, and a column per reading and metric."""
    scores, tuned = (pd.read_parquet(FOLDER / f"{name}.parquet") for name in ("scores", "performance"))
    wide = scores.assign(column=scores["reading"] + ": " + scores["metric"]).pivot(
        index=["source", "target"], columns="column", values="score"
    )
    means = tuned.groupby(["source", "target", "family"])[["miou", *LISTS]].mean()
    pairs = wide.join(means.reset_index("family")).reset_index()
    columns = [column for column in map(str, wide) if column.partition(": ")[2] in OF_FEATURES]
    grouped = pairs.groupby(["target", "family"])[columns]
    spread = grouped.transform("std", ddof=0).fillna(0)
    standardized = (pairs[columns] - grouped.transform("mean")) / spread.where(spread > 0, 1)
    return pairs.join(standardized.add_suffix(STANDARDIZED))


def metrics_of(pairs: pd.DataFrame) -> Mapping[str, list[str]]:
    """Name what is judged: every metric under every reading, their combinations, and what reads no features."""
    scored = [
        column for column in map(str, pairs) if column.partition(": ")[2].removesuffix(STANDARDIZED) in OF_FEATURES
    ]
    combined = {
        f"{reading}: {name}": [f"{reading}: {part}" for part in parts]
        for reading, (name, parts) in product(READING_NAMES, COMBINED.items())
    }
    without = {name: [f"last: {name}"] for name in WITHOUT_FEATURES}
    return {**combined, **{name: [name] for name in scored}, **without, **{name: [name] for name in LISTS}}


def evaluated(pairs: pd.DataFrame, *, n_draws: int = 1000) -> Rows:
    """Evaluate everything that is judged: rows of `EVALUATION`."""
    metrics = metrics_of(pairs)
    draws = two_way_draws(pairs, metrics, n_draws=n_draws)
    rows = []
    for part, name in product((ACROSS, WITHIN), [*metrics, CHANCE]):
        reading, _, metric = name.rpartition(": ")
        measured = {measure: draws[part, name, measure] for measure in ("top1", "tau_w")}
        regret = measured["regret"] = 100 * draws[part, name, "regret"]
        measured["over_chance"] = regret - 100 * draws[part, CHANCE, "regret"]
        if reading not in ("", LAST):
            measured["change"] = regret - 100 * draws[part, f"{LAST}: {metric}", "regret"]
        named = {"part": part, "reading": reading or NO_READING, "metric": metric}
        for measure, values in measured.items():
            interval = zip(("value", "low", "high"), two_way_interval(values), strict=True)
            rows.append({**named, "measure": measure, **dict(interval)})
    return rows


def tables(found: Rows) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield title, columns and rows: what every reading gives, what it changes, and what needs no features."""
    cells = {(one["part"], one["reading"], one["metric"], one["measure"]): _cell(**one) for one in found}
    for part, (measure, title) in product((ACROSS, WITHIN), {"regret": "regret, points", "tau_w": "tau_w"}.items()):
        metrics = _metrics(found, part)
        rows = [[metric, *(cells[part, name, metric, measure] for name in READING_NAMES)] for metric in metrics]
        yield f"{part}: {title}", [f"{part}, {title}", *READING_NAMES], rows
    changes = list(product((ACROSS, WITHIN), READING_NAMES[1:]))
    rows = [[name, *(cells[part, one, name, "change"] for part, one in changes)] for name in [*COMBINED, *OF_QUESTION]]
    head = [f"{one}, {part}" for part, one in changes]
    yield "change in regret against the last layer's input, points", ["change in regret", *head], rows
    for name, measure in {"default, over chance": "over_chance", "default, top-1": "top1"}.items():
        rows = [[part, *(cells[part, one, "default", measure] for one in READING_NAMES)] for part in (ACROSS, WITHIN)]
        yield name, [name, *READING_NAMES], rows
    shown = list(product((ACROSS, WITHIN), ("regret", "tau_w")))
    rows = [
        [name, *(cells[part, NO_READING, name, measure] for part, measure in shown)]
        for name in (*WITHOUT_FEATURES, *LISTS, CHANCE)
    ]
    yield "without features", ["without features", *(f"{measure}, {part}" for part, measure in shown)], rows


def family_table(tuned: pd.DataFrame) -> tuple[str, list[str], list[list[str]]]:
    """List the mean mIoU of every family's best source for every target, and in parentheses that of its start."""
    miou = tuned.groupby(["family", "target", "source"])["miou"].mean()
    targets, rows = list(tuned["target"].unique()), []
    for family in FAMILIES:
        start = f"{family}_{SCRATCH}"
        of_family = [miou[family, target] for target in targets]
        rows.append([family, *(f"{own.drop(start).max():.3f} ({own[start]:.3f})" for own in of_family)])
    return "mIoU of the best source of every family, and of its start", ["best source (start)", *targets], rows


def _metrics(found: Rows, part: str) -> list[str]:
    """Name the metrics that a reading has; standardizing within a family changes nothing in a list of one family."""
    names = dict.fromkeys(row["metric"] for row in found if row["reading"] == LAST)
    return [name for name in names if part == ACROSS or not name.endswith(STANDARDIZED)]


def _cell(*, measure: str, value: float, low: float, high: float, **_key: str) -> str:
    if pd.isna(value):
        return "n/a"
    digits, sign = ("3", "") if measure in ("tau_w", "top1") else ("2", "+" if measure != "regret" else "")
    return "{:{f}} ({:{g}} to {:{g}})".format(value, low, high, f=f"{sign}.{digits}f", g=f"{sign}.2f")


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Format a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(pairs: pd.DataFrame) -> Plot:
    """Draw mIoU against GBC, read at the last layer's input and at all stages, one color per family."""
    caption = "mIoU below the best of the target against GBC, standardized per target, under two readings."
    return Plot("readings", "Two readings", caption, caption, partial(_draw, pairs))


def _draw(pairs: pd.DataFrame) -> Figure:
    drawn = Figure(figsize=(8, 4), layout="constrained")
    panels = drawn.subplots(1, 2, sharey=True)
    below = 100 * (pairs["miou"] - pairs.groupby("target")["miou"].transform("max"))
    for axes, reading in zip(panels, ("last", "stages"), strict=True):
        score = pairs.groupby("target")[f"{reading}: gbc_64"].transform(lambda own: (own - own.mean()) / own.std())
        for family, color in FAMILIES.items():
            own = pairs["family"] == family
            axes.scatter(score[own], below[own], 14, color=color, label=family, linewidths=0)
        axes.set(title=f"features: {reading}", xlabel="GBC, standardized per target")
    panels[0].set_ylabel("mIoU below the target's best, points")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(FAMILIES))
    return drawn


if __name__ == "__main__":
    with console_logging():
        main()
