"""The tables of the pages hold the numbers of the manifests, the schedules and the published results."""

import re
from typing import Any

import pandas as pd
import pytest
import yaml
from loaded_scripts import script
from page_text import RESULTS_PAGE, ROOT, table, tables

SCENARIOS = {"fixed target": "fixed_target", "fixed source": "fixed_source"}


@pytest.mark.parametrize("folder", ["", "small/"])
def test_the_tables_of_datasets_say_what_the_manifests_say(folder: str) -> None:
    found = table(ROOT / "data_manifests/README.md", "fasseg" if folder else "kitti")
    files = {file.stem: file for file in (ROOT / "data_manifests" / folder).glob("*.yaml")}
    assert set(found) == set(files)
    for name, file in files.items():
        manifest: dict[str, Any] = yaml.load(file.read_text(), yaml.CSafeLoader)
        splits = [manifest["train"], manifest["eval"]]
        if folder:
            splits.insert(1, manifest.get("source_train", manifest["train"]))
        counts = " / ".join(str(split.get("count", "unknown")) for split in splits)
        encoding = [] if folder else [manifest["labels"]["encoding"]]
        expected = [manifest["domain"], str(len(manifest["classes"])), *encoding, counts]
        assert found[name][1 : len(expected) + 1] == [cell.replace("unknown / unknown", "unknown") for cell in expected]


def test_the_table_of_schedules_says_what_the_files_say() -> None:
    found = table(ROOT / "configs/README.md", "`steps`", "`power`")
    for column, name in ((2, "source_training"), (3, "fine_tuning")):
        schedule = yaml.safe_load((ROOT / f"configs/schedules/{name}.yaml").read_text())
        for fields, cells in found.items():
            names = re.findall(r"`(\w+)`", fields)
            shown = yaml.safe_load(f"[{cells[column]}]") or [None]
            assert shown == [schedule.get(field) for field in names], fields
        assert {field for fields in found for field in re.findall(r"`(\w+)`", fields)} >= set(schedule)


def stored_settings(study: str, name: str) -> pd.DataFrame:
    stored = pd.read_parquet(ROOT / f"data_manifests/published/{study}/ablations/{name}.parquet")
    return stored.set_index(["ablation", "setting", "scenario", "metric"]).sort_index()


def assert_setting(cell: str, row: pd.Series) -> None:
    """A tau_w, rounded, and an asterisk where its paired interval against the study's own setting excludes 0."""
    number, _, star = cell.partition(" ")
    digits = len(number.partition(".")[2])
    assert float(number) == pytest.approx(row["tau_w"], abs=0.5 * 10**-digits + 1e-9), row.name
    assert bool(star) == (row["difference_low"] > 0 or row["difference_high"] < 0), row.name


def results_table(title: str) -> dict[str, list[str]]:
    """The rows of the table of the page of results with this first column title."""
    (found,) = (rows for head, rows in tables(RESULTS_PAGE.read_text()) if head[0] == title)
    return found


@pytest.mark.parametrize(("study", "title"), [("real7", "GBC, real7"), ("real11", "GBC, real11")])
def test_the_table_of_gbc_settings_says_what_was_stored(study: str, title: str) -> None:
    stored = stored_settings(study, "gbc_settings").loc["covariance and PCA"]
    found = results_table(title)
    for label, cells in found.items():
        scenario, covariance = label.split(", ")
        for setting, cell in zip(("16", "32", "64", "128", "none"), cells, strict=True):
            assert_setting(cell, stored.loc[(f"{covariance}, {setting}", SCENARIOS[scenario], "gbc")])
    assert sum(map(len, found.values())) == len(stored)


@pytest.mark.parametrize(("study", "title"), [("real7", "sample, real7"), ("real11", "sample, real11")])
def test_the_table_of_samples_says_what_was_stored(study: str, title: str) -> None:
    stored = stored_settings(study, "samples")
    found = results_table(title)
    columns = [(scenario, metric) for scenario in SCENARIOS.values() for metric in ("gbc", "logme", "h_score", "leep")]
    for label, cells in found.items():
        for column, cell in zip(columns, cells, strict=True):
            assert_setting(cell, stored.loc[(*sample_setting(label), *column)])
    assert sum(map(len, found.values())) == len(stored)


def sample_setting(label: str) -> tuple[str, str]:
    """The ablation and its setting, as they are stored, that a row of the page is about."""
    if label == "uniform pixels":
        return "balance", "none"
    if label.startswith("balanced by "):
        return "balance", label.removeprefix("balanced by ")
    setting, _, ablation = label.partition(" ")
    return ablation, setting


def test_the_table_of_leakage_says_what_was_stored() -> None:
    stored = 100 * pd.read_parquet(ROOT / "data_manifests/published/real7_rerun/ablations/leakage.parquet").set_index(
        ["source", "target"]
    )
    found = results_table("leakage, target")
    expected = {**stored.groupby("target").mean().T, f"all {len(stored)} pairs": stored.mean()}
    assert found.keys() == expected.keys()
    for target, cells in found.items():
        assert [float(cell) for cell in cells] == pytest.approx(expected[target].to_list(), abs=0.06), target


def test_a_wrong_number_or_asterisk_is_found() -> None:
    row = pd.Series({"tau_w": 0.512, "difference_low": 0.1, "difference_high": 0.3})
    assert_setting("0.51 *", row)
    for cell in ("0.52 *", "0.51"):
        with pytest.raises(AssertionError):
            assert_setting(cell, row)


def test_the_figure_is_the_one_that_its_script_draws() -> None:
    assert script("figure").figure() == (ROOT / ".github/figure.svg").read_text()
