"""The published runs of the study of seven real datasets: complete, without paths of a machine, as their page says."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from page_text import RESULTS_PAGE, tables

from seg_transfer.evaluation import fine_tuning_noise
from seg_transfer.resources import shipped
from seg_transfer.store.run_results import read_run

RUNS = {"real7": 17, "real7_rerun": 22}
"""Run -> number of metrics."""
SEEDS = {"real7": [0, 1, 2], "real7_rerun": [0]}


@pytest.fixture(scope="module", params=RUNS)
def folder(request):
    return shipped(f"data_manifests/published/{request.param}")


@pytest.fixture(scope="module")
def results(folder):
    return read_run(folder)


def test_every_pair_is_scored_by_every_metric_and_fine_tuned_with_every_seed(folder, results):
    assert (results.left_out, results.unscored, results.untuned) == ([], [], [])
    assert results.scores.groupby(["source", "target"])["metric"].nunique().to_list() == [RUNS[folder.name]] * 42
    seeds = results.performance.groupby(["source", "target"])["seed"].apply(sorted)
    assert seeds.to_list() == [SEEDS[folder.name]] * 49
    assert len(results.cards) == 7
    assert results.scores["score"].notna().all()


def texts(value):
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def test_no_path_names_the_machine_and_it_is_small(folder):
    described = [folder / "study.yaml", *folder.glob("sources/*/source.json")]
    found = [text for file in described for text in texts(yaml.safe_load(file.read_text()))]
    assert "hrnetv2_w18_small.py" in found
    assert [text for text in found if Path(text).is_absolute()] == []
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 3e6


def test_the_page_has_the_performance_of_every_pair_and_its_noise(folder, results):
    text = RESULTS_PAGE.read_text()
    (table,) = ((head[1:], rows) for head, rows in tables(text) if head[0] == f"{folder.name}, target")
    miou = results.miou.set_index(["target", "source"])["miou"]
    tuned = results.performance[results.performance["source"] != "scratch"]
    noise = tuned.groupby(["target", "source"])["miou"].var().groupby("target").mean() ** 0.5
    for target, cells in table[1].items():
        shown = {source: float(cell.strip("*")) for source, cell in zip(table[0], cells, strict=True) if cell}
        assert shown.pop("seeds", noise[target]) == pytest.approx(noise[target], abs=0.0006, nan_ok=True)
        assert shown == pytest.approx(miou[target].to_dict(), abs=0.0006)
    if len(SEEDS[folder.name]) == 1:
        return
    assert "seeds" in table[0]
    fraction = fine_tuning_noise(results.performance).set_index("scenario")["fraction_distinguishable"]
    assert f"{fraction['fixed_target']:.0%}".replace("%", " % differ by more than") in text.replace("\n", " ")


def test_its_tables_are_those_of_its_results(folder, results):
    pairs = pd.read_parquet(folder / "tables/pairs.parquet").set_index(["source", "target"])
    scores = results.scores.set_index(["source", "target", "metric"])["score"]
    for (source, target, metric), score in scores.items():
        assert pairs.loc[(source, target), metric] == score
    miou = results.miou.set_index(["source", "target"])["miou"]
    assert pairs["miou"].to_dict() == miou[pairs.index].to_dict()
