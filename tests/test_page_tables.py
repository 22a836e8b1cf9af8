"""The tables of the pages hold the numbers of the manifests, the schedules and the published results."""

import importlib.util
import re
from functools import cache
from typing import Any

import pandas as pd
import pytest
import yaml
from page_text import RESULTS_PAGE, ROOT, code_blocks, table, table_with_heading

from seg_transfer.evaluation import evaluate, metric_columns, robustness, robustness_summary
from seg_transfer.store.published import published_pairs

SCENARIOS = {"fixed target": "fixed_target", "fixed source": "fixed_source"}
UNIT = 6e-4
"""Of a number with three digits: half of the last one, and as much as another processor may differ."""
UNIT_OF_POINTS = 6e-3
"""The same of a number with two digits."""


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


@cache
def measures(published: str) -> pd.DataFrame:
    pairs, _ = published_pairs(published)
    found = evaluate(pairs, metrics=metric_columns(pairs), n_bootstrap=10)
    found["regret"] *= 100  # in points
    return found.set_index(["scenario", "metric"])[["top1", "tau_w", "regret", "fidelity"]]


def test_the_table_of_published_pairs_says_what_evaluate_says() -> None:
    (block,) = (code for code in code_blocks(RESULTS_PAGE.read_text(), "") if code.startswith("Fixed target"))
    rows = [line.split() for line in block.splitlines()[2:]]
    found = {}
    for row in rows:
        for scenario, (metric, *numbers) in zip(SCENARIOS.values(), (row[:5], row[5:]), strict=True):
            found[scenario, metric] = [float(number) for number in numbers]
    for place, numbers in found.items():
        *shares, regret, fidelity = measures("segmentation").loc[place].to_list()
        assert numbers[2] == pytest.approx(regret, abs=UNIT_OF_POINTS), place
        assert [*numbers[:2], numbers[3]] == pytest.approx([*shares, fidelity], abs=UNIT), place
    assert set(found) == set(measures("segmentation").index)


def test_the_table_of_architectures_says_what_evaluate_says() -> None:
    head, rows = table_with_heading(RESULTS_PAGE, "fixed target, frozen")
    for label, cells in rows.items():
        *measure, scenario, kind = label.split(", ")
        name = {"fine-tuned": "architectures", "frozen": "architectures_frozen"}[kind]
        for metric, cell in zip(head.split(), cells, strict=True):
            if cell:
                expected = measures(name).loc[(SCENARIOS[scenario], metric), "regret" if measure else "tau_w"]
                assert float(cell) == pytest.approx(expected, abs=UNIT_OF_POINTS if measure else UNIT), (label, metric)


@cache
def robust(published: str) -> pd.DataFrame:
    pairs, _ = published_pairs(published)
    return robustness_summary(robustness(pairs, metrics=metric_columns(pairs))).set_index("metric")


SIZES = ["tau_w_without_largest", "tau_w_equal_size"]
LEFT_OUT = ["tau_w_min", "tau_w_max"]


@pytest.mark.parametrize(
    ("name", "metric", "columns", "words"),
    [
        ("segmentation", "logme", LEFT_OUT, "whichever source is left out ({:.3f} to {:.3f})"),
        ("architectures", "nleep", SIZES, "architectures ({:.3f}), among those of about equal size ({:.3f})"),
        ("architectures", "nleep", LEFT_OUT, "and whichever is left out ({:.3f} to {:.3f})"),
        ("real7", "pactran", ["n_first", "n_left_out", *LEFT_OUT], "{:.0f} of {:.0f} cases (tau_w {:.3f} to {:.3f})"),
    ],
)
def test_what_the_page_says_of_other_pools_of_sources(name: str, metric: str, columns: list[str], words: str) -> None:
    summary = robust(name)
    assert summary["tau_w"][summary["kind"] == "metric"].idxmax() == metric
    assert words.format(*summary.loc[metric, columns]) in " ".join(RESULTS_PAGE.read_text().split())


def stored_settings(name: str) -> pd.DataFrame:
    stored = pd.read_parquet(ROOT / f"data_manifests/published/real7/ablations/{name}.parquet")
    return stored.set_index(["ablation", "setting", "scenario", "metric"]).sort_index()


def assert_setting(cell: str, row: pd.Series) -> None:
    """A tau_w, rounded, and an asterisk where its paired interval against the study's own setting excludes 0."""
    number, _, star = cell.partition(" ")
    digits = len(number.partition(".")[2])
    assert float(number) == pytest.approx(row["tau_w"], abs=0.5 * 10**-digits + 1e-9), row.name
    assert bool(star) == (row["difference_low"] > 0 or row["difference_high"] < 0), row.name


def test_the_table_of_gbc_settings_says_what_was_stored() -> None:
    stored = stored_settings("gbc_settings").loc["covariance and PCA"]
    found = table(RESULTS_PAGE, "fixed target, spherical")
    for label, cells in found.items():
        scenario, covariance = label.split(", ")
        for setting, cell in zip(("16", "32", "64", "128", "none"), cells, strict=True):
            assert_setting(cell, stored.loc[(f"{covariance}, {setting}", SCENARIOS[scenario], "gbc")])
    assert sum(map(len, found.values())) == len(stored)


def test_the_table_of_samples_says_what_was_stored() -> None:
    stored = stored_settings("samples")
    found = table(RESULTS_PAGE, "100 pixels per image")
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


def test_a_wrong_number_or_asterisk_is_found() -> None:
    row = pd.Series({"tau_w": 0.512, "difference_low": 0.1, "difference_high": 0.3})
    assert_setting("0.51 *", row)
    for cell in ("0.52 *", "0.51"):
        with pytest.raises(AssertionError):
            assert_setting(cell, row)


def test_the_figure_is_the_one_that_its_script_draws() -> None:
    spec = importlib.util.spec_from_file_location("figure", ROOT / "scripts/figure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.figure() == (ROOT / ".github/figure.svg").read_text()
