"""Judge `choose` on a finished study: what does its race lose, at what cost, beside scores alone and other ways?

    python scripts/judge_choice.py race configs/studies/real11.yaml --run-folder RUN --data-root DATA
    python scripts/judge_choice.py collect configs/studies/real11.yaml --run-folder RUN --data-root DATA
    python scripts/judge_choice.py show data_manifests/published/real11

`race` lets every source of every target (or of those named by --target) race to the end, in RUN/choices, and can be
interrupted; two processes may share the targets. Since what a racer reaches does not depend on who else races, all
races of `choose` at any budget are then known. `collect` copies what was reached into the published folder of the
study. `show` judges the choices by the mIoU of full fine-tunings on all images, measured on the eval split: it prints
the table, and draws `choice.png` there.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from matplotlib.figure import Figure

from seg_transfer.console import console_logging
from seg_transfer.errors import ResultsError
from seg_transfer.evaluation import SCRATCH
from seg_transfer.reports.drawing import BLUE, GRAY, GREEN, INK, ORANGE, RED, Plot, picture
from seg_transfer.resources import shipped
from seg_transfer.selection.race_plan import FIRST_SHARES, Pace, Plan, plan_race, run_plan
from seg_transfer.selection.race_setup import Prepared, Wanted, prepare
from seg_transfer.selection.source_scores import Request
from seg_transfer.selection.standings import judgment_at
from seg_transfer.store.atomic import replaced_atomically, write_text
from seg_transfer.store.results import read_pairs
from seg_transfer.store.tables import described_schema, read_rows, write_rows
from seg_transfer.study.definition import HoldOut, schedule_of
from seg_transfer.study.networks import loadable_source
from seg_transfer.study.run import Run, fine_tuning_of, open_run

FILE = "choice_races.parquet"
BUDGETS = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Fine-tunings to the end that a race with its last fine-tuning may cost."""
SHOWN_BUDGET = 2.5
N_DRAWS = 2000
RACES = described_schema(
    [
        ("target", pa.string(), "name of the target dataset"),
        ("source", pa.string(), "name of the source model"),
        ("entry", pa.int32(), "place among the entrants of the race; missing for sources that scores rule out"),
        ("rank", pa.int32(), "rank by the default metric on the images that are not held out"),
        ("steps", pa.int64(), "optimization steps so far"),
        ("of_steps", pa.int64(), "optimization steps of the whole schedule"),
        ("miou", pa.float64(), "mean IoU on the held-out images, fraction in [0, 1]"),
        ("n_held_out", pa.int32(), "held-out images"),
        ("seconds", pa.float64(), "wall time since the judgment before, seconds"),
        ("scoring_seconds", pa.float64(), "wall time of scoring the source, seconds"),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("race", "collect"):
        command = commands.add_parser(name)
        command.add_argument("study", type=Path)
        command.add_argument("--run-folder", type=Path, required=True)
        command.add_argument("--data-root", type=Path, required=True)
        command.add_argument("--target", action="append")
    commands.add_parser("show").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "show":
        show(arguments.folder)
        return
    with console_logging():
        run = open_run(arguments.study, arguments.data_root, arguments.run_folder)
        targets = arguments.target or list(run.study.targets)
        if arguments.command == "race":
            for target in targets:
                race(run, target)
        else:
            collect(run, targets, shipped(f"data_manifests/published/{run.study.name}") / FILE)


# Races


def prepared(run: Run, target: str) -> Prepared:
    """Score the sources of a target and settle its race, as `choose` does, with the study's schedule."""
    folder = run.folder / "choices"
    schedule = folder / "schedule.yaml"
    write_text(schedule, yaml.safe_dump(schedule_of(fine_tuning_of(run)).model_dump(mode="json")))
    sources = [loadable_source(run, source) for source in run.study.sources if source.dataset != target]
    request = Request(run.manifests[target], run.data_root, sources, {}, "rank_mean", hold_out=HoldOut())
    return prepare(request, Wanted(minutes=None, runs=BUDGETS[-1], schedule=schedule), folder / target)


def race(run: Run, target: str) -> None:
    """Let all sources of a target race to the end, with a judgment wherever a rung can be."""
    ready = prepared(run, target)
    for steps in rung_steps(ready.state.steps):
        ready.venue.train(list(ready.ranking.table["source"]), steps)


def rung_steps(steps: int) -> list[int]:
    """Return the steps at which racers can be judged."""
    return [int(np.ceil(share * steps)) for share in reversed(FIRST_SHARES)]


def collect(run: Run, targets: Sequence[str], file: Path) -> None:
    """Copy what all sources reached into one file."""
    rows = [row for target in targets for row in collected(prepared(run, target), target)]
    write_rows(file, RACES, rows)


def collected(ready: Prepared, target: str) -> Iterator[dict[str, object]]:
    table = ready.ranking.table.set_index("source")
    for source in table.index:
        entry = ready.entrants.index(source) + 1 if source in ready.entrants else None
        for steps in rung_steps(ready.state.steps):
            judged = judgment_at(ready.venue.run, source, steps)
            if judged is None:
                raise ResultsError(f"{source} -> {target}: not judged at step {steps}; run `race` first")
            yield {
                "target": target,
                "source": source,
                "entry": entry,
                "rank": int(table.loc[source, "rank"]),
                "steps": steps,
                "of_steps": ready.state.steps,
                "miou": judged.miou,
                "n_held_out": len(judged.images),
                "seconds": judged.seconds,
                "scoring_seconds": float(table.loc[source, "seconds"]),
            }


# Choices


def choices_of(races: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """List what every way to choose chooses for every target.

    Args:
        races: Rows of the published file.
        truth: Pairs with miou, own_miou and scores of the study, as `read_pairs` returns them.

    Returns:
        Columns: target, way, budget (NaN without one), chosen, regret in points, and the cost in runs, which are
        fine-tunings to the end.
    """
    rows = []
    for target, members in races.groupby("target", sort=False):
        known = truth[truth["target"] == target].set_index("source")
        miou = known["miou"].drop(SCRATCH)
        for way, budget, chosen, runs in _ways(members, known, truth[truth["target"] != target]):
            reached = known.loc[chosen, "miou"].mean() if chosen else miou.mean()
            rows.append((target, way, budget, ", ".join(chosen), 100 * (miou.max() - reached), runs))
    return pd.DataFrame(rows, columns=["target", "way", "budget", "chosen", "regret", "runs"])


Way = tuple[str, float, list[str], float]


def _ways(races: pd.DataFrame, known: pd.DataFrame, elsewhere: pd.DataFrame) -> Iterator[Way]:
    table = races.drop_duplicates("source").set_index("source")
    one_run = races.groupby("source")["seconds"].sum().mean()
    scoring = table["scoring_seconds"].sum() / one_run
    sources = known.drop(SCRATCH)
    by_entry = list(table.dropna(subset="entry").sort_values("entry").index)
    by_rank = list(table.sort_values("rank").index)
    for way, entrants in (("race", by_entry), ("race of all", by_rank)):
        for budget in BUDGETS:
            winner, cost = raced(races, entrants, budget)
            yield way, budget, [winner], cost + scoring
    at_end = races[races["steps"] == races["of_steps"]].set_index("source")["miou"]
    yield "tuning all once", np.nan, [str(at_end.idxmax())], len(at_end) + 1.0
    yield "scores alone", np.nan, [by_rank[0]], 1 + scoring
    yield "N-LEEP alone", np.nan, [str(sources["nleep"].idxmax())], 1 + scoring
    yield "best elsewhere", np.nan, [_best_elsewhere(elsewhere, list(sources.index))], 1.0
    yield "own mIoU", np.nan, [str(sources["own_miou"].idxmax())], 1.0
    yield "random", np.nan, [], 1.0
    yield "ImageNet alone", np.nan, [SCRATCH], 1.0


def raced(races: pd.DataFrame, entrants: Sequence[str], budget: float) -> tuple[str, float]:
    """Return the winner of a race with a budget in runs, and what it costs with the last fine-tuning."""
    steps = int(races["of_steps"].iloc[0])
    plan = plan_race(entrants, dict.fromkeys(entrants, Pace(1 / steps)), steps, budget)
    reached = races.set_index(["source", "steps"])["miou"]

    def judge(racers: Sequence[str], at: int) -> dict[str, float]:
        return {name: float(reached[name, at]) for name in racers}

    return run_plan(plan, judge)[-1][0], cost_of(plan)


def cost_of(plan: Plan) -> float:
    """Return the cost of a race and its last fine-tuning in fine-tunings to the end."""
    befores = [0, *(rung.steps for rung in plan.rungs)]
    race = sum(rung.n_racers * (rung.steps - before) for rung, before in zip(plan.rungs, befores, strict=False))
    return 1 + race / plan.steps


def _best_elsewhere(elsewhere: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the source with the best mean rank of mIoU on all other targets: a static list."""
    others = elsewhere[elsewhere["source"].isin(names)]
    ranks = others.groupby("target")["miou"].rank(ascending=False)
    return str(ranks.groupby(others["source"]).mean().idxmin())


# What is shown


def show(folder: Path) -> None:
    """Print the tables of all ways, and draw the first."""
    summary, chosen = judged(folder)
    print("\n\n".join(tables(summary, chosen)))
    with replaced_atomically(folder / "figures" / "choice.png") as temporary:
        plot = Plot("choice", "", "", "", lambda: figure(summary))
        temporary.write_bytes(picture(plot).png)


def judged(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the mean of every way with its interval over targets, and all choices."""
    races, (truth, _) = pd.DataFrame(read_rows(folder / FILE, RACES)), read_pairs(folder)
    chosen = choices_of(races, truth)
    n_sources = races.groupby("target")["source"].nunique().mean()
    rows = []
    for (way, budget), members in chosen.groupby(["way", "budget"], sort=False, dropna=False):
        regret, runs = members["regret"].to_numpy(), members["runs"].mean()
        draws = np.random.default_rng(0).integers(len(regret), size=(N_DRAWS, len(regret)))
        low, high = np.percentile(regret[draws].mean(axis=1), (2.5, 97.5))
        rows.append((way, budget, runs, runs / n_sources, regret.mean(), low, high, int((regret <= 1).sum())))
    columns = ["way", "budget", "runs", "share", "regret", "low", "high", "within_one_point"]
    return pd.DataFrame(rows, columns=columns), chosen


def tables(summary: pd.DataFrame, chosen: pd.DataFrame) -> list[str]:
    """Return two tables as Markdown: all ways, and what some lose on every target."""
    n_targets = chosen["target"].nunique()
    ways = [
        [
            row["way"] if np.isnan(row["budget"]) else f"{row['way']}, {row['budget']:g} runs",
            f"{row['runs']:.2f}",
            f"{100 * row['share']:.0f} %",
            f"{row['regret']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            f"{row['within_one_point']} of {n_targets}",
        ]
        for row in summary.to_dict("records")
    ]
    kept = chosen[chosen["budget"].isna() | (chosen["budget"] == SHOWN_BUDGET)]
    by_target = kept.pivot(index="target", columns="way", values="regret")[list(dict.fromkeys(kept["way"]))]
    regret = [[target, *(f"{value:.2f}" for value in row)] for target, *row in by_target.itertuples()]
    return [
        markdown(["way", "cost in runs", "of tuning all", "regret", "at most 1 point"], ways),
        markdown(["target", *by_target.columns], regret),
    ]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


_COLORS = {"race": BLUE, "race of all": GREEN, "tuning all once": RED, "scores alone": ORANGE}


def figure(summary: pd.DataFrame) -> Figure:
    """Draw regret over cost: lines for races at several budgets, points for all other ways."""
    drawn = Figure(figsize=(7.5, 4.2))
    axes = drawn.subplots()
    for way, members in summary.groupby("way", sort=False):
        color = _COLORS.get(str(way), GRAY)
        axes.plot(members["runs"], members["regret"], marker="o", markersize=5, color=color, linewidth=1.6)
        last = members.iloc[-1]
        axes.annotate(
            str(way), (last["runs"], last["regret"]), (6, 4), textcoords="offset points", fontsize=8, color=INK
        )
    axes.axhline(1.0, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("cost, in fine-tunings to the end")
    axes.set_ylabel("regret, points of mIoU")
    axes.set_ylim(bottom=0)
    return drawn


if __name__ == "__main__":
    main()
