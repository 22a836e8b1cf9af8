"""Judge `choose` on a finished study: what does its race lose, at what cost, beside scores alone and other ways?

    python scripts/judge_choice.py race configs/studies/real11.yaml --run-folder RUN --data-root DATA
    python scripts/judge_choice.py collect configs/studies/real11.yaml --run-folder RUN --data-root DATA
    python scripts/judge_choice.py show data_manifests/published/real11

`race` lets every source of every target (or of those named by --target) race to the end, in RUN/choices; it can be
interrupted. Since what a racer reaches does not depend on who else races, all races of `choose` at any budget are then
known. `collect` copies what was reached into the published folder of the study. `show` judges choices by the mIoU of
fine-tunings on all images, on the eval split: it prints tables, and draws `choice.png` there.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from scipy.stats import kendalltau

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
from seg_transfer.store.tables import JUDGED_RACES, read_rows, write_rows
from seg_transfer.study.definition import HoldOut, schedule_of
from seg_transfer.study.networks import loadable_source
from seg_transfer.study.run import Run, fine_tuning_of, open_run

FILE = "choice_races.parquet"
BUDGETS = (1.3, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Fine-tunings to the end that a race with its last fine-tuning may cost."""
SHOWN_BUDGET = 2.5
SCORES = "scores alone"
N_DRAWS = 2000


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
    write_rows(file, JUDGED_RACES, rows)


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
    yield SCORES, np.nan, [by_rank[0]], 1 + scoring
    yield "N-LEEP alone", np.nan, [str(sources["nleep"].idxmax())], 1 + scoring
    yield "best elsewhere", np.nan, [_best_elsewhere(elsewhere, list(sources.index))], 1.0
    yield "own mIoU", np.nan, [str(sources["own_miou"].idxmax())], 1.0
    yield "random", np.nan, [], 1.0
    yield "ImageNet alone", np.nan, [SCRATCH], 1.0


def raced(races: pd.DataFrame, entrants: Sequence[str], budget: float) -> tuple[str, float]:
    """Return the winner of a race with a budget in runs, and what it costs with the last fine-tuning."""
    steps, reached = int(races["of_steps"].iloc[0]), races.set_index(["source", "steps"])["miou"]
    plan = plan_race(entrants, dict.fromkeys(entrants, Pace(1 / steps)), steps, budget)

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


def show(folder: Path) -> None:
    """Print the tables of all ways and of rungs, and draw the first."""
    summary, chosen = judged(folder)
    print("\n\n".join([*tables(summary, chosen), rung_table(*results(folder))]))
    with replaced_atomically(folder / "figures" / "choice.png") as temporary:
        plot = Plot("choice", "", "", "", lambda: figure(summary))
        temporary.write_bytes(picture(plot).png)


def results(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read what racers of a published study reached, and its pairs."""
    return pd.DataFrame(read_rows(folder / FILE, JUDGED_RACES)), read_pairs(folder)[0]


def rung_table(races: pd.DataFrame, truth: pd.DataFrame) -> str:
    """Return Kendall's tau of judgments with those at the end, and with the full mIoU: means over targets."""
    known = races.merge(truth[["source", "target", "miou"]], on=["source", "target"], suffixes=("", "_full"))
    known["end"] = known.groupby(["source", "target"])["miou"].transform("last")
    rows = []
    for steps, members in known.groupby("steps"):
        groups = [one for _, one in members.groupby("target")]
        taus = [np.mean([kendalltau(one["miou"], one[name])[0] for one in groups]) for name in ("end", "miou_full")]
        rows.append([steps, *(f"{tau:.2f}" for tau in taus)])
    return markdown(["judged after steps", "tau with the end", "tau with the mIoU"], rows)


def judged(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the mean of every way with its interval over targets, and all choices."""
    races, truth = results(folder)
    chosen = choices_of(races, truth)
    n_sources = races.groupby("target")["source"].nunique().mean()
    alone = chosen[chosen["way"] == SCORES].set_index("target")["regret"]
    rows = []
    for (way, budget), members in chosen.groupby(["way", "budget"], sort=False, dropna=False):
        regret, runs = members.set_index("target")["regret"], members["runs"].mean()
        within = int((regret <= 1).sum())
        against = (regret - alone).to_numpy()
        rows.append(
            (way, budget, runs, runs / n_sources, *over_targets(regret.to_numpy()), within, *over_targets(against))
        )
    columns = ["way", "budget", "runs", "share", "regret", "low", "high", "within_one_point"]
    return pd.DataFrame(rows, columns=[*columns, "against", "against_low", "against_high"]), chosen


def over_targets(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over targets and its percentile-bootstrap interval; the draws are the same for all."""
    draws = np.random.default_rng(0).integers(len(values), size=(N_DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


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
            ""
            if row["way"] == SCORES
            else f"{row['against']:+.2f} ({row['against_low']:+.2f} to {row['against_high']:+.2f})",
        ]
        for row in summary.to_dict("records")
    ]
    kept = chosen[chosen["budget"].isna() | (chosen["budget"] == SHOWN_BUDGET)]
    by_target = kept.pivot(index="target", columns="way", values="regret")[list(dict.fromkeys(kept["way"]))]
    regret = [[target, *(f"{value:.2f}" for value in row)] for target, *row in by_target.itertuples()]
    return [
        markdown(["way", "cost in runs", "of tuning all", "regret", "at most 1 point", f"against {SCORES}"], ways),
        markdown(["target", *by_target.columns], regret),
    ]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


_COLORS = {"race": BLUE, "race of all": GREEN, "tuning all once": RED, SCORES: ORANGE}


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
    axes.set(xlabel="cost, in fine-tunings to the end", ylabel="regret, points of mIoU", ylim=(0, None))
    return drawn


if __name__ == "__main__":
    main()
