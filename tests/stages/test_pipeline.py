"""Pairs whose features stay on a device are scored in threads while the network observes others."""

import logging
import signal
import threading
from collections.abc import Iterator

import pytest
from pipeline_study import NAMES, killed_at, on_device, pairs, score, scores, study_run

import seg_transfer.metrics
from seg_transfer.errors import ConfigError, IncompleteError, ObservationsError
from seg_transfer.metrics import METRICS, Metric
from seg_transfer.stages import context, pipeline, score_keys, scoring
from seg_transfer.stages.context import ScoringContext
from seg_transfer.stages.pipeline import InFlight
from seg_transfer.store import results


@pytest.fixture
def device() -> Iterator[pytest.MonkeyPatch]:
    """Features stay in tensors, and three threads score."""
    with on_device() as patch:
        yield patch


def happens(event: threading.Event) -> None:
    assert event.wait(60), "waited in vain"


def test_scores_are_those_of_one_pair_after_the_other_in_any_order(tmp_path, small_world, device):
    run = study_run(tmp_path / "alone", small_world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoringContext, "scores_beside", False)
        score(run, pairs(run))
    expected = scores(run)
    assert len(expected) == 8 * len(NAMES)
    beside = study_run(tmp_path / "beside", small_world)
    score(beside, pairs(beside)[::-1])
    assert scores(beside) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_a_pair_is_scored_while_the_next_one_is_observed(tmp_path, small_world, device):
    run, observed, score_all = study_run(tmp_path, small_world, ["gbc"]), [], scoring.score_all
    several = threading.Event()

    def observe(*words, **options):
        observed.append(context.observe(*words, **options))
        if len(observed) == 3:
            several.set()
        return observed[-1]

    def score_late(*words):
        happens(several)
        assert threading.current_thread() is not threading.main_thread()
        return score_all(*words)

    device.setattr(scoring, "observe", observe)
    device.setattr(scoring, "score_all", score_late)
    score(run, pairs(run))
    assert len(scores(run)) == 8


@pytest.mark.parametrize("fields", [{"keep_features": True}, {}], ids=["stored", "on the CPU"])
def test_features_in_numpy_are_scored_before_the_next_pair(fields, tmp_path, small_world, monkeypatch):
    if fields:
        monkeypatch.setattr(ScoringContext, "features_on_device", True)
    run, threads, score_all = study_run(tmp_path, small_world, ["gbc"], **fields), [], scoring.score_all
    monkeypatch.setattr(
        scoring, "score_all", lambda *words: threads.append(threading.current_thread()) or score_all(*words)
    )
    score(run, pairs(run))
    assert threads == [threading.main_thread()] * 8


def faulty(statistics, **settings):
    raise ConfigError("metric faulty needs a library that is not installed; install it")


def test_metrics_and_pairs_that_fail_stop_no_others(tmp_path, small_world, device):
    metrics = METRICS | {"faulty": Metric("faulty", frozenset({"features"}), "", "", "", faulty, {}, version=1)}
    for module in (seg_transfer.metrics, score_keys, scoring, results):
        device.setattr(module, "METRICS", metrics)
    run = study_run(tmp_path, small_world, ["gbc", "faulty"])

    def observe(its_context, entry, *words):
        if entry.name == "net1":
            raise ObservationsError("source net1: torn")
        return context.observe(its_context, entry, *words)

    device.setattr(scoring, "observe", observe)
    with pytest.raises(IncompleteError) as caught:
        score(run, pairs(run))
    others = [item for item in pairs(run) if item.source != "net1"]
    expected = {f"{item.source} -> {item.target}, faulty" for item in others}
    assert caught.value.reasons.keys() == expected | {f"net1 -> {item.target}" for item in others}
    assert scores(run).keys() == {(item.source, item.target, "gbc") for item in others}


def test_a_pair_whose_lease_is_lost_is_not_stored(tmp_path, small_world):
    run = study_run(tmp_path, small_world, ["gbc"])
    with on_device():
        rest = scoring.score_pair(ScoringContext.for_run(run), pairs(run)[0], lambda: False)
    assert rest is not None
    rest()
    assert scores(run) == {}


@pytest.mark.parametrize(("room", "n_beside"), [(2, [0, 1]), (3, [0, 1, 2])])
def test_pairs_in_flight_fit_into_a_quarter_of_the_memory(room, n_beside, tmp_path, small_world, device):
    """No score ends before the network waits for one of them; what is in flight is noted when it goes on."""
    run, score_all, wait_until = study_run(tmp_path, small_world, ["gbc"]), scoring.score_all, InFlight.wait_until
    n_bytes = 4 * 5 * 60 * (5 + 3)  # float32 features and probabilities of 5 images
    asked, waits, seen = [], threading.Event(), []

    def wait(counted, limit):
        asked.append(limit)
        if len(asked) > room:
            waits.set()
        wait_until(counted, limit)
        seen.append(counted.n_bytes)

    def score_late(*words):
        happens(waits)
        return score_all(*words)

    device.setattr(InFlight, "wait_until", wait)
    device.setattr(scoring, "score_all", score_late)
    score(run, pairs(run), memory_gb=4 * room * n_bytes / 2**30)
    assert asked == [(room - 1) * n_bytes] * 8
    assert seen[:room] == [n * n_bytes for n in n_beside]
    assert max(seen) == (room - 1) * n_bytes
    assert len(scores(run)) == 8


def test_one_pair_at_a_time_where_not_even_two_fit(tmp_path, small_world, device):
    run, seen = study_run(tmp_path, small_world, ["gbc"]), []
    wait_until = InFlight.wait_until
    device.setattr(InFlight, "wait_until", lambda *words: wait_until(*words) or seen.append(words[0].n_bytes))
    score(run, pairs(run), memory_gb=0)
    assert seen == [0] * 8
    assert len(scores(run)) == 8


def test_the_clock_stands_still_while_one_waits_for_room(monkeypatch):
    now = iter([10.0, 11.0, 71.0, 73.0])
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: next(now))
    counted = InFlight()
    began = counted.clock()
    counted.wait_until(0)  # from 11 to 71
    assert counted.clock() - began == 3.0


def test_what_is_counted_goes_with_a_rest_that_fails():
    counted = InFlight()

    def fail():
        assert counted.n_bytes == 7
        raise ObservationsError("no")

    rest = pipeline.in_flight(fail, 7, counted, "cpu")
    with pytest.raises(ObservationsError):
        rest()
    assert counted.n_bytes == 0


def test_a_line_for_every_pair_after_what_is_said_of_its_source(tmp_path, small_world, device, caplog):
    run = study_run(tmp_path, small_world, ["gbc"])
    device.setattr(
        scoring,
        "warn_of_constant_features",
        lambda item, *words: logging.getLogger("seg_transfer").info("%s -> %s observed", item.source, item.target),
    )
    with caplog.at_level(logging.INFO, "seg_transfer"):
        score(run, pairs(run))
    said = [record.getMessage() for record in caplog.records]
    for item in pairs(run):
        observed, scored = (line for line in said if line.startswith(f"{item.source} -> {item.target}"))
        assert observed.endswith("observed")
        assert ": gbc " in scored


def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path, small_world):
    undisturbed, run = (study_run(tmp_path / name, small_world, ["gbc", "leep"]) for name in ("whole", "killed"))
    with on_device():
        score(undisturbed, pairs(undisturbed))
        assert killed_at(run, 3) == -signal.SIGKILL
        left = {file: file.stat().st_mtime_ns for file in (run.folder / "scores").glob("*/*.parquet")}
        assert 1 <= len(left) <= 3  # with three threads, the fourth begins when one has stored its pair
        assert len(scores(run)) == 2 * len(left)
        score(run, pairs(run))
    assert {file: file.stat().st_mtime_ns for file in left} == left
    assert scores(run) == pytest.approx(scores(undisturbed), rel=1e-5)
    assert not run.leases.exists()
