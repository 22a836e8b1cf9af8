"""Sources of other libraries: what cannot be done with them and what is said of it; in a ranking and in `explain`."""

import json
import shutil
from typing import Any

import pytest
import yaml
from mixed_sources import ENTRIES, NETS, TARGETS, other_field, scores

from seg_transfer import rank_sources
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.sources import parse_entry
from seg_transfer.store.source_card import read_source_card
from seg_transfer.study.run import open_run
from seg_transfer.training.evaluate import evaluate_on


def test_without_scores_only_such_a_source_is_reported_and_the_others_are_scored(own_copy):
    shutil.rmtree(own_copy.run / "scores")
    own_copy.change(sources=[{**ENTRIES[2], "scores_only": False, "classifier": "unused"}, *ENTRIES[:2]])
    line = own_copy.call("score-pairs", "--trust-config").reason(3)
    assert line.startswith("prototypes -> dusk_street: factory nets:Prototypes: network Prototypes: does not use its")
    assert {row["source"] for row in own_copy.rows("scores")} == {"tokens", "dictionary"}


def test_features_of_scores_are_not_kept(own_copy):
    own_copy.change(keep_features=True)
    assert own_copy.call("score-pairs", "--trust-config").code == 0
    files = {
        str(file.relative_to(own_copy.run / "features")) for file in (own_copy.run / "features").glob("*/*.parquet")
    }
    sources = ("day_street", "tokens", "dictionary")
    assert files >= {f"{source}/{target}.parquet" for source in sources for target in TARGETS}
    assert not any(name.startswith("prototypes") for name in files)
    assert json.loads(own_copy.call("score-pairs", "--dry-run", "--json", "--trust-config").out)["missing"] == []


def test_sources_of_every_kind_are_fine_tuned_kept_and_loaded_again(own_copy):
    """Also one of scores only, which gets a linear layer on the maps that its network computes."""
    own_copy.change(fine_tuning={**own_copy.study_fields()["fine_tuning"], "keep_weights": True})
    names = ["segformer", "tokens", "dictionary", "prototypes"]
    only = [*(word for name in names for word in ("--source", name)), "--target", "dusk_street", "--trust-config"]
    missing = json.loads(own_copy.call("finetune-pairs", *only, "--dry-run", "--json").out)["missing"]
    assert all(one["seconds"] > 0 and one["basis"] == "a timed forward pass" for one in missing)
    ended = own_copy.call("finetune-pairs", *only)
    assert (ended.code, ended.err) == (0, "")
    run = open_run(own_copy.study, own_copy.world, own_copy.run)
    records, manifest = run.records("dusk_street", "eval"), run.manifests["dusk_street"]
    miou = {row["source"]: row["miou"] for row in own_copy.rows("performance")}
    for name in names:
        folder = run.fine_tuned_folder(name, "dusk_street", 0)
        card, entry = read_source_card(folder / "source.json"), run.study.source(name)
        assert (card.initialisation, card.model["kind"]) == (entry.key(), entry.kind)
        assert card.model["mean"] == list(entry.input_normalization().mean)
        kept = parse_entry({"name": "kept", "dataset": "dusk_street", "config": folder / "source.json"})
        assert kept.code() == entry.code()  # a card of a factory's network is announced as the factory is
        trained = load_source_model(folder / "source.json", trust_code=True)
        assert evaluate_on(trained, records, manifest).miou == card.miou == miou[name]
    assert json.loads(own_copy.call("finetune-pairs", *only, "--dry-run", "--json").out)["missing"] == []


def test_a_dry_run_times_the_networks_themselves(own_copy):
    shutil.rmtree(own_copy.run / "scores")
    missing = json.loads(own_copy.call("score-pairs", "--dry-run", "--json", "--trust-config").out)["missing"]
    items = {one["item"]: one for one in missing}
    assert items["prototypes -> dusk_street: leep"]["seconds"] > 0
    assert items["segformer -> dusk_street: gbc, leep, ids"]["basis"] == "a timed forward pass"


@pytest.mark.parametrize(
    ("fields", "code", "reported"),
    [
        ({"factory": "../nets:Tokens"}, 3, "source 'tokens': field factory: '../nets:Tokens': must be package.module"),
        ({"factory": "nets:absent"}, 3, "factory nets:absent: cannot be run (AttributeError: "),
        ({"factory": "absent:build"}, 3, "factory absent:build: no module absent in "),
        ({"factory": "os:system"}, 3, "factory os:system: cannot be run (TypeError: "),
        ({"classifier": "absent"}, 3, "has no layer 'absent'; its last ones are stem, head"),
        ({"weights": "absent.pth"}, 5, "absent.pth: no such checkpoint file"),
        ({"weights": "Dictionary.safetensors"}, 5, "Dictionary.safetensors: lacks parameter head.weight"),
        (
            {"transformers": "hub"},
            3,
            "source 'tokens' has transformers and factory, which mark different kinds of model",
        ),
    ],
)
def test_a_wrong_entry_ends_in_one_line(own_copy, fields, code, reported):
    other_field(0, **fields)(own_copy)
    line = own_copy.call("score-pairs", "--source", "tokens", "--trust-config").reason(code)
    if reported.startswith("Dictionary"):
        reported = "Dictionary.safetensors: "
    assert reported in line


def rank(workspace: Any, metric: str) -> Any:
    bank = workspace.study.parent / "bank.yaml"
    bank.write_text(yaml.safe_dump({"sources": ENTRIES}))
    manifest = workspace.world / "manifests/dusk_street.yaml"
    sources = [str(bank), str(workspace.run / "sources/day_street")]
    return rank_sources(target=str(manifest), sources=sources, metric=metric, data_root=workspace.world)


def test_models_of_all_kinds_are_in_one_ranking(own_copy):
    """With the scores of a study that draws as many pixels, and in their order."""
    own_copy.change(sampling={"pixels_per_image": 1000})
    assert own_copy.call("score-pairs", "--trust-config").code == 0
    found = scores(own_copy)
    expected = {name: found[name, "dusk_street", "leep"]["score"] for name in ("day_street", "segformer", *NETS)}
    table = rank(own_copy, "leep").table
    assert dict(zip(table["source"], table["score"], strict=True)) == pytest.approx(expected)
    assert list(table["source"]) == sorted(expected, key=lambda name: -expected[name])
    # A source without features has no linear head on them.
    assert table.loc[table["probe_miou"].isna(), "source"].tolist() == ["prototypes"]


def test_a_ranking_by_features_goes_on_without_a_source_of_scores(own_copy):
    ranking = rank(own_copy, "gbc")
    assert set(ranking.table["source"]) == {"day_street", "tokens", "dictionary", "segformer"}
    assert ranking.skipped == {"prototypes": "cannot be scored by gbc; choose another metric"}


def test_features_are_explained_where_there_are_some(own_copy, invoke):
    line = invoke("explain", *own_copy.place(), "--target", "dusk_street", "--trust-config").reason(3)
    assert line == (
        "prototypes -> dusk_street: this source gives scores only (scores_only) and has no features to explain; "
        "leave it out"
    )
    explained = {path.parent.name for path in (own_copy.run / "explanations").glob("*/dusk_street")}
    assert explained >= {"day_street", "tokens", "dictionary", "segformer"}
