"""A bank of cloned repositories, each of which puts folders of its own on ``sys.path``."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from other_nets import MEAN, STD, repository


@pytest.fixture
def words(small_world: Path, tmp_path: Path) -> list[str]:
    """Ranks two repositories whose modules have the same names."""
    sources = []
    for name, channels in (("one", 4), ("two", 6)):
        spec = repository(tmp_path / name, channels)
        fields = {"factory": spec.factory, "weights": str(spec.weights), "classifier": spec.classifier}
        sources.append({"name": name, **fields, "factory_folder": name, "mean": [*MEAN], "std": [*STD]})
    (tmp_path / "bank.yaml").write_text(yaml.safe_dump({"sources": sources}))
    place = ["--data-root", str(small_world), "--run-folder", str(tmp_path / "run"), "--trust-config", "--json"]
    return ["rank", str(tmp_path / "bank.yaml"), "--target", str(small_world / "manifests/day_street.yaml"), *place]


def written(folder: Path) -> dict[str, tuple[int, dict[str, str]]]:
    """When the scores of each source were written, and their keys."""
    files = {file.parent.name: file for file in folder.glob("run/scores/*/*.parquet")}
    rows = {name: pq.read_table(file, partitioning=None).to_pylist() for name, file in files.items()}
    return {
        name: (file.stat().st_mtime_ns, {row["metric"]: row["content_key"] for row in rows[name]})
        for name, file in files.items()
    }


def test_both_are_ranked_and_a_change_of_their_code_is_seen(words: list[str], invoke: Any, tmp_path: Path) -> None:
    ended = invoke(*words)
    assert (ended.code, ended.err) == (0, "")
    assert {row["source"] for row in json.loads(ended.out)["ranking"]} == {"one", "two"}
    before = written(tmp_path)
    assert invoke(*words).code == 0
    assert written(tmp_path) == before  # nothing is scored again
    with (tmp_path / "one/nets/blocks.py").open("a") as file:
        file.write("# another line\n")
    assert invoke(*words).code == 0
    after = written(tmp_path)
    assert after["two"] == before["two"]
    assert after["one"][0] != before["one"][0]
    assert not set(after["one"][1].values()) & set(before["one"][1].values())
