"""The benchmark of a GPU machine runs whole on a CPU, and says so when a device computes something else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from loaded_scripts import script
from torch import Tensor

from seg_transfer.arrays import IntArray
from seg_transfer.arrays.device import DeviceArrays
from seg_transfer.metrics import METRICS

benchmark = script("benchmark_gpu")
relative = script("benchmark_gpu_metrics").relative
ON_CPU = ["--device", "cpu", "--small"]


def only(monkeypatch: pytest.MonkeyPatch, **sections: Callable[[Any], list[str]]) -> None:
    """Run these sections alone, and metrics with one number of classes."""
    monkeypatch.setattr(benchmark, "SECTIONS", sections)
    monkeypatch.setattr(benchmark, "SMALL", replace(benchmark.SMALL, n_classes=(3,)))


def test_all_sections_pass_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(ON_CPU) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line]
    assert [title for title in benchmark.SECTIONS if f"\n{title}\n" in printed] == list(benchmark.SECTIONS)
    for name, metric in METRICS.items():
        if "scores" not in metric.needs and metric.installed:
            assert sum(words[0] == name for words in lines) == len(benchmark.SMALL.n_classes), name
    assert "scores agree within 1e-08" in printed
    assert "forward passes: MMDistributedDataParallel 4, SyncBatchNorm 0" in printed
    assert printed.endswith("\nall sections passed\n")


def test_a_device_that_sums_in_float32_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = DeviceArrays.add_by_key

    def add_in_float32(arrays: DeviceArrays, totals: Tensor, rows: Tensor, keys: IntArray) -> None:
        add(arrays, totals, rows, keys)
        totals.copy_(totals.float())

    monkeypatch.setattr(DeviceArrays, "add_by_key", add_in_float32)
    only(monkeypatch, Metrics=benchmark.SECTIONS["Metrics"])
    assert benchmark.main(ON_CPU) == 1
    last = capsys.readouterr().out.rpartition("\n\n")[2].splitlines()
    assert any(line.startswith("Metrics: C = 3, h_score differs by ") for line in last), last
    assert not any(" knn " in line for line in last), last  # uses no sums by key


def test_a_metric_that_fails_on_the_device_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def log(arrays: DeviceArrays, values: object) -> None:
        raise NotImplementedError("no logarithm here")

    monkeypatch.setattr(DeviceArrays, "log", log)
    only(monkeypatch, Metrics=benchmark.SECTIONS["Metrics"])
    assert benchmark.main(ON_CPU) == 1
    printed = capsys.readouterr().out
    assert "Metrics: C = 3, leep fails on the device: NotImplementedError: no logarithm here" in printed
    assert "gbc differs" not in printed


def test_a_failed_section_does_not_stop_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(bench: object) -> list[str]:
        raise RuntimeError("out of order")

    only(monkeypatch, First=broken, Second=lambda bench: print("  still here") or [])
    assert benchmark.main(ON_CPU) == 1
    assert capsys.readouterr().out == "\nFirst\n  failed\n\nSecond\n  still here\n\nFirst: RuntimeError: out of order\n"


def test_whole_pairs_need_what_the_sections_before_measured(capsys: pytest.CaptureFixture[str]) -> None:
    (problem,) = benchmark.SECTIONS["Whole pairs"](benchmark.Bench("cpu", benchmark.SMALL))
    assert "were not measured" in problem


def test_the_estimate_by_hand() -> None:
    # 272 pairs; 15 targets of 150 images and 2 of 1000, each seen by 16 sources.
    assert benchmark.estimate(1.0, {5: (1.0, 1.0), 150: (1.0, 1.0)}, 150_000) == (16 * (15 * 150 + 2 * 1000), 272.0)
    # One second per 30 000 observations.
    _, scoring = benchmark.estimate(0.0, {5: (1.0, 5.0), 150: (1.0, 5.0)}, 150_000)
    assert scoring == pytest.approx(16 * (15 * 5 + 2 * 1000 / 30))
    # One second per class.
    _, scoring = benchmark.estimate(0.0, {5: (5.0, 5.0), 150: (150.0, 150.0)}, 150_000)
    assert scoring == pytest.approx(16 * sum(benchmark.PAPER_CLASSES))


def test_scores_that_are_no_numbers_never_agree() -> None:
    assert relative(-2.0, -2.5) == 0.25
    assert relative(1.0, float("nan")) == float("inf")


def test_what_did_not_run_on_a_device_is_named() -> None:
    ran = {"MMDistributedDataParallel": 4, "float16": 8, "BatchNorm2d": 4}
    found = {"backend": "nccl", "arithmetic": "float16", "ran": ran}
    assert benchmark.missing(found, "cuda") == ["SyncBatchNorm did not run"]
    assert benchmark.missing({**found, "ran": {**ran, "SyncBatchNorm": 4}}, "cuda:1") == []
    assert benchmark.missing(found, "cpu") == ["backend gloo did not run"]


def test_a_group_that_does_not_form_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    training = script("benchmark_gpu_training")
    monkeypatch.setattr(training, "MAX_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match=r"did not end within 0\.01 s"):
        training.in_a_process_group("cpu")
