"""Workers, a node and the driver of a Ray cluster are killed; the pairs end as those of an undisturbed run."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import choosing
import pyarrow.parquet as pq
import pytest
from choosing import answer
from end_to_end import ray_cluster
from end_to_end.ray_cluster import Cluster, wait_until
from files import found_below

from seg_transfer.resources import shipped

DOMAINS = ("day_street", "dusk_street", "cells_dark")
TASK = "score-pairs"
LONG = {"steps": 60, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster.started_cluster() as cluster:
        yield cluster


@pytest.fixture
def many(finished: Any, copy_of: Callable[[Any], Any]) -> Any:
    """Thirty pairs to score: the same three networks under more names."""
    workspace = copy_of(finished)
    for file in workspace.run.glob("scores/*/*"):
        file.unlink()
    again = [source(workspace, f"{name}_{number}", name) for number in range(4) for name in DOMAINS]
    workspace.change(sources=[*DOMAINS, *again])
    return workspace


def source(workspace: Any, name: str, dataset: str) -> dict[str, str]:
    return {"name": name, "dataset": dataset, "config": str(workspace.run / f"sources/{dataset}/source.json")}


def words(workspace: Any, stage: str = TASK) -> list[str]:
    return [stage, *workspace.words(), "--engine", "ray"]


def n_scored(workspace: Any) -> int:
    return len(list(workspace.run.glob("scores/*/*.parquet")))


def ended(driver: Any) -> tuple[int, list[str], list[str]]:
    """Exit code and lines of a driver; of those on stderr, our own."""
    out, err = driver.communicate(timeout=ray_cluster.PATIENCE)
    return driver.returncode, out.splitlines(), [line for line in err.splitlines() if line.startswith("seg-transfer: ")]


def check_all(workspace: Any, finished: Any, kept: dict[str, Any]) -> None:
    """All pairs are there and valid, none of those that were finished was computed again, and no number differs."""
    after = workspace.state("scores")
    assert {name: after[name] for name in kept} == kept
    assert workspace.done(TASK, "--dry-run") == "nothing is missing\n"
    assert workspace.done(TASK) == ""
    undisturbed = {(row["source"], row["target"], row["metric"]): row["score"] for row in finished.rows("scores")}
    rows = workspace.rows("scores")
    assert len(rows) == 5 * len(undisturbed)
    for row in rows:
        assert row["score"] == undisturbed[row["source"].rstrip("_0123"), row["target"], row["metric"]]


def test_a_killed_driver_is_started_again(cluster, many, finished):
    driver = cluster.start(*words(many))
    wait_until(lambda: n_scored(many) > 0, "a pair is scored")
    cluster.signal(driver, signal.SIGKILL)
    driver.communicate()
    wait_until(lambda: not (cluster.head.workers(TASK) or cluster.other.workers(TASK)), "the tasks end")
    kept = {name: state for name, state in many.state("scores").items() if name.endswith(".parquet")}
    assert 0 < len(kept) < 30

    code, out, err = ended(cluster.start(*words(many)))
    assert (code, err) == (0, [])
    # One line per pair, those of a killed task too, and none twice.
    assert len(out) == len(set(out)) == 30 - len(kept)
    check_all(many, finished, kept)


def test_a_race_on_a_cluster_ends_as_in_this_process(cluster, bank, invoke):
    answer(invoke(*choosing.words(bank, "--runs", "5", "--dry-run", "--json")))
    assert invoke(*choosing.race_words(bank, "here")).code == 0
    here = choosing.ends(bank)
    shutil.rmtree(choosing.folder(bank) / "race")
    code, _, err = ended(cluster.start(*choosing.race_words(bank, "ray")))
    assert (code, err) == (0, [])
    assert choosing.ends(bank) == here
    assert len(here) == 2


def test_what_fails_is_reported_and_the_others_are_done(cluster, many):
    config = many.study.parent / "poison.py"
    config.write_text(
        f"_base_ = ['{shipped('configs/models/hrnetv2_tiny.py')}']\nimport os, pathlib\n"
        "if pathlib.Path('/proc/self/cmdline').read_text().startswith('ray::'):\n    os.kill(os.getpid(), 9)\n"
    )
    weights = str(many.run / "sources/day_street/weights.safetensors")
    poison = {"name": "poison", "dataset": "cells_dark", "config": str(config), "checkpoint": weights}
    many.change(sources=["cells_dark", poison, "dusk_street"], targets=["day_street", "cells_dark"])
    image = sorted((many.world / "cells_dark/train/images").iterdir())[0]
    image.write_bytes(image.read_bytes()[:100])

    code, out, err = ended(cluster.start(*words(many), "--trust-config"))
    assert (code, len(out), n_scored(many)) == (8, 2, 2)
    *reasons, summary = sorted(err, key=lambda line: "failed: " in line)
    assert any("poison -> day_street: 3 processes crashed while they worked on it" in reason for reason in reasons)
    assert any(f"dusk_street -> cells_dark: {image}: cannot be decoded" in reason for reason in reasons)
    assert "failed: " in summary
    for label in ("poison -> day_street", "dusk_street -> cells_dark"):
        assert label in summary
    assert "cells_dark -> day_street" not in summary


def test_an_interrupted_fine_tuning_resumes(cluster, finished, copy_of):
    only = ("--source", "day_street", "--target", "cells_dark")
    workspace = copy_of(finished)
    workspace.change(
        fine_tuning={**(tuning := workspace.study_fields()["fine_tuning"]), "changes": tuning["changes"] | LONG}
    )
    before = workspace.state("performance")

    driver = cluster.start(*words(workspace, "finetune-pairs"), *only)
    wait_until(lambda: found_below(workspace.run / "fine_tuning", "resume.pth") != [], "a checkpoint is there")
    cluster.signal(driver, signal.SIGINT)
    assert ended(driver) == (130, [], [])
    assert workspace.state("performance") == before
    assert list(workspace.run.rglob("holder.json")) == []

    code, out, err = ended(cluster.start(*words(workspace, "finetune-pairs"), *only))
    assert (code, err) == (0, [])
    assert out[-1].startswith("day_street -> cells_dark, seed 0: mIoU")
    assert not (workspace.run / "fine_tuning").exists()
    file = workspace.run / "performance/day_street/cells_dark.parquet"
    resumed = pq.read_table(file)["miou"].to_pylist()
    file.unlink()
    workspace.done("finetune-pairs", *only)
    assert pq.read_table(file)["miou"].to_pylist() == resumed


def test_a_killed_worker_and_a_killed_node_lose_no_pair(cluster, many, finished):
    driver = cluster.start(*words(many))
    wait_until(lambda: n_scored(many) > 1 and bool(cluster.head.workers(TASK)), "the head scores a pair")
    os.kill(cluster.head.workers(TASK)[0], signal.SIGKILL)
    wait_until(lambda: bool(cluster.other.workers(TASK)), "the other node works")
    kept = {name: state for name, state in many.state("scores").items() if name.endswith(".parquet")}
    cluster.other.kill()
    assert 0 < len(kept) < 30

    code, out, err = ended(driver)
    assert (code, err) == (0, [])
    # A pair may have been written, and not yet reported of, when its process was killed.
    assert 28 <= len(out) == len(set(out)) <= 30
    check_all(many, finished, kept)
