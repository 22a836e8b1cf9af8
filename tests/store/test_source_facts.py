"""Facts about the sources of a run folder: from their cards and costs, only where they belong to what was scored."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from source_cards import source_card

from seg_transfer.evaluation import SOURCE_FACTS, evaluate
from seg_transfer.models.adapters import ADAPTERS
from seg_transfer.models.entry import SourceEntry
from seg_transfer.store import source_facts as module
from seg_transfer.store.content_key import settings_key
from seg_transfer.store.network_costs import NetworkCosts, write_costs
from seg_transfer.store.results import read_pairs
from seg_transfer.store.source_card import write_source_card
from seg_transfer.store.source_facts import known_for_all, source_facts
from seg_transfer.store.tables import PERFORMANCE, SCORES, write_rows

STUDY = {
    "study": {
        "metrics": ["gbc"],
        "targets": ["a", "b", "c"],
        "sources": [{"name": name, "dataset": name} for name in "abc"],
    },
    "manifests": {name: {"classes": ["x", "y"]} for name in "abc"},
}
OTHERS = {
    "seconds": 1.0,
    "content_key": "k",
    "schema_version": 1,
    "seg_transfer_version": "0",
    "created_utc": "2024-01-01T00:00:00+00:00",
}
SIZES = {"a": 3_000_000, "b": 1_000_000, "c": 2_000_000}


def put_card(folder: Path, name: str, **fields: object) -> None:
    path = folder / "sources" / name
    path.mkdir(parents=True, exist_ok=True)
    write_source_card(source_card(name, **fields), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six scored and fine-tuned pairs of three sources, with cards and costs of all."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    for index, (source, target) in enumerate((s, t) for s in "abc" for t in "abc" if s != t):
        for kind, schema, value in (
            ("scores", SCORES, {"metric": "gbc", "score": -index}),
            ("performance", PERFORMANCE, {}),
        ):
            row = {"source": source, "target": target, "seed": 0, "miou": index / 10, **value, **OTHERS}
            row = {name: cell for name, cell in row.items() if name in schema.names}
            origin = {"settings_key": settings_key(kind, STUDY, target), "source_key": f"weights of {source}"}
            write_rows(tmp_path / kind / source / f"{target}.parquet", schema, [row], origin)
    for number, name in enumerate("abc"):
        put_card(tmp_path, name, miou=0.5 + number / 10, n_train_images=100 * (number + 1))
        write_costs(tmp_path, name, f"weights of {name}", NetworkCosts(SIZES[name], 7.5 + number, 512, 512))
    return tmp_path


def test_pairs_have_the_facts_and_evaluate_ranks_by_them(folder: Path) -> None:
    frame, left_out = read_pairs(folder)
    assert left_out == []
    assert list(frame) == ["source", "target", "miou", "n_target_classes", *SOURCE_FACTS, "gbc"]
    facts = frame.drop_duplicates("source").set_index("source")[list(SOURCE_FACTS)]
    assert facts.loc["a"].tolist() == [3e6, 7.5, 0.5, 100]
    assert facts.loc["c"].tolist() == [2e6, 9.5, pytest.approx(0.7), 300]
    assert set(SOURCE_FACTS) <= set(evaluate(frame, scenarios=["fixed_target"])["metric"])


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda folder: (folder / "sources/b/source.json").unlink(), {"own_miou", "n_train_images"}),
        (lambda folder: (folder / "sources/b/source.json").write_text("{"), {"own_miou", "n_train_images"}),
        (lambda folder: (folder / "costs/b.json").unlink(), {"parameters", "gflops"}),
        (lambda folder: write_costs(folder, "b", "weights of b", NetworkCosts(SIZES["b"], None, 64, 64)), {"gflops"}),
        (
            lambda folder: write_costs(folder, "b", "other weights", NetworkCosts(9, 1.0, 64, 64)),
            {"parameters", "gflops"},
        ),
    ],
)
def test_a_fact_that_one_source_lacks_is_no_column(folder: Path, damage, lost: set[str]) -> None:
    complete, _ = read_pairs(folder)
    damage(folder)
    frame, _ = read_pairs(folder)
    pd.testing.assert_frame_equal(frame, complete.drop(columns=list(lost)))


def test_the_card_that_an_entry_names_counts_and_that_of_an_earlier_training_does_not(folder: Path) -> None:
    entry = {"name": "a", "dataset": "a"}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    write_source_card(source_card("other", miou=0.25, n_train_images=7), elsewhere)
    card = str(elsewhere / "source.json")
    assert source_facts(folder, entry | {"config": None, "license": "MIT"}, "")["own_miou"] == 0.5
    assert source_facts(folder, entry | {"config": card}, "") == {"own_miou": 0.25, "n_train_images": 7}
    for fields in (
        {"config": "net.py", "checkpoint": "w.pth"},
        {"config": card, "checkpoint": "w.pth"},
        {"hub": "x/y"},
    ):
        assert source_facts(folder, entry | fields, "") == {}
    assert source_facts(folder, entry | {"config": str(folder / "no/source.json")}, "") == {}


def test_every_other_kind_of_model_has_a_field_that_trained_sources_lack() -> None:
    assert SourceEntry.kind == "study"
    assert set(SourceEntry.model_fields) >= module._OF_TRAINED
    markers = {kind.marker for kind in ADAPTERS.values()}
    assert not markers & module._OF_TRAINED


def test_facts_known_for_all() -> None:
    assert known_for_all([]) == []
    assert known_for_all([{"gflops": 1.0, "parameters": 2.0}, {"gflops": 3.0}]) == ["gflops"]


def test_costs_are_plain_numbers(folder: Path) -> None:
    assert json.dumps(source_facts(folder, {"name": "b", "dataset": "b"}, "weights of b")) == (
        '{"parameters": 1000000.0, "gflops": 8.5, "own_miou": 0.6, "n_train_images": 200.0}'
    )
