"""rank: one command and three lines of Python give the same answer; some sources fail and the others are ranked."""

import contextlib
import html
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from ranked_bank import TARGET, in_python, without_seconds, words
from safetensors.torch import load_file

import seg_transfer
from seg_transfer.data.inspection import inspect_folders
from seg_transfer.data.manifest import load_manifest
from seg_transfer.errors import ConfigError, IncompleteError
from seg_transfer.selection import source_scores
from seg_transfer.store.confidence import published_slope


def test_command_and_python_give_the_same_numbers(bank, invoke):
    ended = invoke(*words(bank, "--json"))
    assert ended.code == 0, ended.err
    reported, ranking = json.loads(ended.out), in_python(bank)
    assert reported["best"] == ranking.best
    assert ranking.best in ("dusk_street", "cells_dark")
    assert without_seconds(reported["ranking"]) == without_seconds(ranking.as_dict()["ranking"])
    assert reported["skipped"] == {TARGET: f"trained on {TARGET} itself"}
    assert reported["n_pixels"] == 4000
    # And those of a study on the same.
    bank.change(targets=[TARGET], sampling=None, metrics=["gbc", "logme", "probe_miou"])
    bank.done("score-pairs")
    scores = {(row["source"], row["metric"]): (row["score"], row["standard_error"]) for row in bank.rows("scores")}
    for row in reported["ranking"]:
        for part in ("gbc", "logme", "probe_miou"):
            assert scores[row["source"], part] == (row[part], row[f"{part}_error"])


def test_the_lead_of_the_first_source_is_said_in_published_cases(bank):
    shutil.copytree(bank.run / "sources/dusk_street", bank.run / "sources/twin")
    ranking = in_python(bank, metric="gbc")
    scores = ranking.table["score"].to_numpy()
    slope = published_slope("gbc")
    leads = (scores[0] - scores[[1, 1, 2]]) / scores.std()
    np.testing.assert_allclose(ranking.table["confidence"], 1 / (1 + np.exp(-slope * leads)))
    # Which source is the best depends on the machine; where it is one of the twins, neither leads.
    said = f"a lead like this over the second meant a higher mIoU in {100 / (1 + np.exp(-slope * leads[0])):.0f} % of"
    assert (said in str(ranking)) == (ranking.best == "cells_dark")


def test_a_second_call_repeats_nothing_and_nothing_is_kept_without_a_folder(bank, invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    progress: list[tuple[int, int]] = []
    shown = contextlib.nullcontext(lambda *numbers: progress.append(numbers))
    monkeypatch.setattr(source_scores, "progress_of", lambda title: shown)
    first = invoke(*words(bank))
    before = bank.state("ranked/scores")
    assert len(before) == 2
    again = invoke(*words(bank))
    assert progress == [(1, 2), (2, 2)]  # of the first call
    assert bank.state("ranked/scores") == before
    assert first.out.splitlines()[:8] == again.out.splitlines()[:8]
    left = set(tmp_path.iterdir())
    assert in_python(bank, metric="gbc").run_folder is None
    assert set(tmp_path.iterdir()) == left


def test_the_run_folder_holds_a_study_for_other_commands(bank, invoke):
    invoke(*words(bank))
    study, place = (
        bank.run / "ranked/rank.yaml",
        ["--data-root", str(bank.world), "--run-folder", str(bank.run / "ranked")],
    )
    ended = invoke("score-pairs", str(study), *place, "--dry-run")
    assert (ended.code, ended.out) == (0, "nothing is missing\n"), ended.err
    assert invoke("plan", str(study), *place).code == 0
    # And the command that the ranking ends with explains it.
    why = shlex.split(invoke(*words(bank)).out.splitlines()[-1].removeprefix("Why: seg-transfer "))
    explained = invoke(*why)
    assert (explained.code, explained.err) == (0, "")
    assert "classes that decide" in explained.out


def test_what_a_source_costs_is_kept_and_shown_everywhere(bank, invoke):
    entries = [{"name": name, "config": f"sources/{name}/source.json"} for name in ("dusk_street", "cells_dark")]
    (bank.run / "bank.yaml").write_text(json.dumps({"sources": [entries[0] | {"license": "CC-BY-4.0"}, entries[1]]}))
    place = ["--target", bank.world / f"manifests/{TARGET}.yaml", "--data-root", bank.world]
    command = [str(word) for word in ("rank", bank.run / "bank.yaml", *place, "--run-folder", bank.run / "ranked")]
    first = json.loads(invoke(*command, "--json").out)["ranking"]
    weights = load_file(bank.run / "sources/dusk_street/weights.safetensors")
    n_buffers = sum(tensor.numel() for name, tensor in weights.items() if "running" in name or "batches" in name)
    by_name = {row["source"]: row for row in first}
    assert by_name["dusk_street"]["parameters"] == sum(map(torch.numel, weights.values())) - n_buffers
    assert by_name["dusk_street"]["gflops"] > 0
    assert by_name["dusk_street"]["family"] == "HRNet FCNHead, 64 at stride 4"
    assert by_name["dusk_street"]["license"] == "CC-BY-4.0"
    assert by_name["cells_dark"]["license"] is None
    # A second ranking loads nothing and knows them still; the report shows them too.
    again = json.loads(invoke(*command, "--json").out)["ranking"]
    assert again == first
    assert invoke("report", str(bank.run / "ranked")).code == 0
    for name in ("fixed_target", "sources"):
        frame = pd.read_parquet(bank.run / f"ranked/report/{name}.parquet").query("source == 'dusk_street'")
        assert set(frame["parameters"]) == {by_name["dusk_street"]["parameters"]}
        assert set(frame["license"]) == {"CC-BY-4.0"}
        assert set(frame["family"]) == {by_name["dusk_street"]["family"]}
    # Scores that are older than the costs stay valid.
    shutil.rmtree(bank.run / "ranked/costs")
    older = json.loads(invoke(*command, "--json").out)["ranking"]
    assert [{**row, "family": None, "parameters": None, "gflops": None} for row in first] == older


def test_folders_are_a_target(bank, invoke):
    place = bank.world / TARGET / "train"
    folders = {"images": place / "images", "labels": place / "labels"}
    options = [word for name, folder in folders.items() for word in (f"--{name}", str(folder))]
    run = bank.run / "of_folders"
    ended = invoke("rank", str(bank.run / "sources"), *options, "--run-folder", str(run), "--json")
    assert ended.code == 0, ended.err
    ranking = seg_transfer.rank_sources(target=folders, sources=bank.run / "sources")
    assert json.loads(ended.out)["best"] == ranking.best
    # What was found is a manifest, to go on with.
    found = load_manifest(run / "target.yaml")
    assert found.name == ranking.target == TARGET
    assert found.eval is None
    assert found.as_yaml() == inspect_folders(**folders).manifest.as_yaml()
    place = ["--run-folder", str(run), "--data-root", str(bank.world / TARGET / "train")]
    ended = invoke("score-pairs", str(run / "rank.yaml"), *place, "--dry-run")
    assert (ended.code, ended.out) == (0, "nothing is missing\n"), ended.err


def test_sources_that_fail_are_skipped_with_their_reason_and_the_exit_code_says_so(bank, invoke):
    (bank.run / "sources/cells_dark/weights.safetensors").write_bytes(b"no weights")
    torn = bank.run / "sources/torn"
    shutil.copytree(bank.run / "sources/dusk_street", torn)
    (torn / "source.json").write_text("{")
    ended = invoke(*words(bank))
    assert ended.code == 5
    assert "Fine-tune dusk_street: first of 1 for day_street" in ended.out
    assert "It is the only source that could be ranked." in ended.out
    for name in ("cells_dark", "torn", TARGET):
        assert f"Skipped {name}: " in ended.out
    kept = json.loads((bank.run / "ranked/ranking.json").read_text())
    assert (kept["best"], set(kept["skipped"])) == ("dusk_street", {"cells_dark", "torn", TARGET})
    assert invoke("report", str(bank.run / "ranked")).code == 0
    page = (bank.run / "ranked/report/report.html").read_text()
    assert f"torn: {kept['skipped']['torn']}."[:40] in html.unescape(page)
    assert "cells_dark -> day_street: " in ended.err
    ranking = in_python(bank)
    assert set(ranking.skipped) == {"cells_dark", "torn", TARGET}
    assert ranking.failed.exit_code == 5


def test_when_every_source_fails_nothing_is_ranked(bank, invoke):
    for name in ("dusk_street", "cells_dark"):
        (bank.run / f"sources/{name}/weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(IncompleteError, match="no source could be scored on day_street"):
        in_python(bank)
    assert invoke(*words(bank)).code == 5


def test_a_bad_image_is_reported_once(bank, invoke):
    image = next((bank.world / TARGET / "train/images").iterdir())
    image.write_bytes(b"no image")
    ended = invoke(*words(bank))
    assert ended.code == 4
    assert ended.err.count(f"{image}: cannot be decoded") == 2  # when it happens, and in the summary


def test_a_budget_stops_at_the_images_that_are_enough(bank, monkeypatch):
    monkeypatch.setattr("seg_transfer.selection.rank.FIRST_N_IMAGES", 2)
    whole = in_python(bank, metric="gbc")
    ranking = in_python(bank, metric="gbc", budget=True, run_folder=bank.run / "ranked")
    assert ranking.of_images == 4
    looks = sorted(path.name for path in (bank.run / "ranked").glob("images-*"))
    if ranking.n_images == 2:
        assert (looks, len(ranking.tied)) == (["images-2"], 1)
    else:
        assert looks == ["images-2", "images-4"]
        assert ranking.scores == whole.scores


def test_stability_ranks_again_on_subsets(bank, invoke):
    ended = invoke(*words(bank, "--stability", "--metric", "gbc"))
    assert ended.code == 0, ended.err
    frame = pd.read_parquet(bank.run / "ranked/stability.parquet")
    assert frame["n_images"].tolist() == [4, 4, 4]
    assert frame["seed"].tolist() == [0, 1, 2]
    assert frame["tau_w_to_full"].iloc[0] == 1
    assert "Fewer images, other pixel samples" in ended.out
    assert pq.read_schema(bank.run / "ranked/stability.parquet").metadata[b"columns"]


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (["--metric", "gcb"], "metric 'gcb' is unknown; choose among gbc"),
        (["--labels", "x"], "rank: name either a manifest with --target, or two folders with"),
    ],
)
def test_mistakes_are_one_line(bank, invoke, options, reported):
    line = invoke(*words(bank), *options).reason(3)
    assert reported in line


def test_a_bank_of_the_target_alone_leaves_nothing_to_rank(bank):
    target, source = bank.world / f"manifests/{TARGET}.yaml", bank.run / f"sources/{TARGET}/source.json"
    with pytest.raises(ConfigError, match="no source is left to rank for day_street"):
        seg_transfer.rank_sources(target, Path(source), data_root=bank.world)
