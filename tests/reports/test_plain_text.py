"""Names and paths are shown literally: no part of them is an emoji or markup of the terminal."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.emoji import Emoji

import seg_transfer
from seg_transfer.console import plain_console
from seg_transfer.evaluation import evaluate, ranking_of, ranking_sentences
from seg_transfer.progress import progress_of
from seg_transfer.reports.evaluation_tables import evaluation_tables
from seg_transfer.reports.explanations import ExplainedPair, explanation_tables
from seg_transfer.reports.plan import StudyPlan, render_plan
from seg_transfer.reports.source_ranking import source_ranking_tables
from seg_transfer.reports.tables import plain_table, ranking_tables, render
from seg_transfer.stages.base import Status
from seg_transfer.stages.plan import PlanItem

PACKAGE = Path(seg_transfer.__file__).parent
every_name = pytest.mark.parametrize("name", ["nets:one:", "[bold]net[/bold]", "[/]", ":one:[link=file:x]y"])


def shown(tables, lines=()) -> str:
    file = io.StringIO()
    console = plain_console(file, width=200)
    render(tables, console)
    for line in lines:
        console.print(line)
    return file.getvalue()


def scored(score):
    replicates = list(score + 0.01 * np.arange(10.0))
    known = {"score": score, "standard_error": 0.1, "replicates": replicates, "seconds": 1.0}
    return {"gbc": {**known, "n_images": 10, "n_observations": 100}}


def test_an_ordinary_console_would_change_the_names():
    assert str(Emoji("one")) != ":one:"
    console = Console(file=io.StringIO(), width=200)
    console.print("nets:one:", "[bold]net[/bold]")
    assert "one" not in console.file.getvalue()
    assert "bold" not in console.file.getvalue()


@every_name
def test_rank(name):
    ranking = ranking_of(name, "gbc", {name: scored(-1.0), "b": scored(-2.0)}, {"old": f"{name}/weights: missing"})
    text = shown(source_ranking_tables(ranking), ranking_sentences(ranking))
    for printed in (text, str(ranking)):
        assert f"Sources for {name}" in printed
        assert f"Skipped old: {name}/weights: missing." in printed
        assert any(line.split()[1:2] == [name] for line in printed.splitlines())


@every_name
def test_plan(name):
    file = io.StringIO()
    items = [PlanItem("score", f"{name} -> t", name, "t", Status("stale", (f"model.config: {name} -> b",)))]
    plan = StudyPlan(items, Path(), {name: f"{name}/images is missing"})
    render_plan(plan, plain_console(file, width=200))
    text = file.getvalue()
    assert f"stale (model.config: {name} -> b): {name} -> t\n" in text
    assert f"  {name}: {name}/images is missing\n" in text


@every_name
def test_evaluate(name):
    rows = [(source, target, miou, miou) for target in "tu" for source, miou in ((name, 0.5), ("b", 0.4))]
    pairs = pd.DataFrame(rows, columns=["source", "target", "miou", name])
    tables = [
        *ranking_tables(pairs, metrics=[name]),
        *evaluation_tables(evaluate(pairs, metrics=[name], n_bootstrap=2)),
    ]
    text = shown([*tables, plain_table(name, [name, "more"], [[name, "1"]], name)])
    assert f"best, {name}" in text
    assert any(line.split()[:1] == [name] for line in text.splitlines())
    assert text.count(name) > 5


@every_name
def test_explain(name):
    overlaps = pd.DataFrame({"class_a": [0], "class_b": [1], "overlap": [0.5]})
    classes = pd.DataFrame({"class_index": [0, 1], "name": [name, "road"], "n_pixels": [10, 20]})
    frames = {"overlaps": overlaps, "classes": classes}
    text = shown(explanation_tables([ExplainedPair(name, "t", frames), ExplainedPair("b", "t", frames)]))
    assert f"{name} -> t: GBC" in text
    assert f"{name} / road" in text
    assert f"GBC of {name} above that of b" in text


@every_name
def test_progress(name, capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    with progress_of(f"scoring sources on {name}", console) as tick:
        tick(3, 4)
    assert f"scoring sources on {name} " in console.file.getvalue()


def test_every_console_of_the_package_is_a_plain_one():
    callers = [file.name for file in PACKAGE.rglob("*.py") if "Console(" in file.read_text()]
    assert callers == ["console.py"]
