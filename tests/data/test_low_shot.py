"""The choice of the low-shot subset."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.record import Record
from seg_transfer.data.records import list_records, low_shot_records, low_shot_subset
from seg_transfer.errors import ConfigError

Manifest = Callable[..., DatasetManifest]


def ids(records: list[Record]) -> list[str]:
    return [record.image_id for record in records]


def named(*names: str) -> list[Record]:
    return [Record(name, Path(f"{name}.jpg"), Path(f"{name}.png")) for name in names]


def test_low_shot_is_the_documented_hash() -> None:
    records = named(*(f"train/{i:03}" for i in range(40)))
    ranked = sorted(records, key=lambda r: hashlib.sha256(f"3\0mini\0{r.image_id}".encode()).hexdigest())
    assert low_shot_subset(records, 7, 3, "mini") == sorted(ranked[:7], key=lambda r: r.image_id)


def test_low_shot_golden() -> None:
    records = named(*(f"train/{i:03}" for i in range(40)))
    assert ids(low_shot_subset(records, 4, 0, "mini")) == ["train/008", "train/018", "train/019", "train/029"]


@given(
    st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=4), min_size=1, max_size=30),
    st.integers(1, 35),
    st.integers(1, 35),
    st.integers(-3, 2**40),
)
def test_low_shot_is_nested_and_independent_of_order(names: set[str], a: int, b: int, seed: int) -> None:
    records = named(*sorted(names))
    shuffled = sorted(records, key=lambda record: hashlib.md5(record.image_id.encode()).digest())
    small, large = (low_shot_subset(records, limit, seed, "mini") for limit in sorted((a, b)))
    assert set(small) <= set(large)
    assert len(small) == min(a, b, len(names))
    assert low_shot_subset(shuffled, max(a, b), seed, "mini") == large == sorted(large, key=lambda r: r.image_id)


def test_low_shot_depends_on_seed_and_dataset() -> None:
    records = named(*map(str, range(200)))
    chosen = {tuple(ids(low_shot_subset(records, 20, seed, name))) for seed in range(5) for name in ("a", "b")}
    assert len(chosen) == 10


def test_low_shot_chooses_every_image_equally_often() -> None:
    records = named(*map(str, range(20)))
    times = dict.fromkeys(ids(records), 0)
    for seed in range(2000):
        for record in low_shot_subset(records, 5, seed, "mini"):
            times[record.image_id] += 1
    assert all(400 <= n <= 600 for n in times.values())  # 500 expected, standard deviation 19


def test_low_shot_needs_an_image() -> None:
    with pytest.raises(ConfigError, match=r"low_shot\.limit: 0: a target needs at least 1 image"):
        low_shot_subset(named("a"), 0, 0, "mini")


def test_low_shot_records_follow_the_manifest(mini: Path, manifest: Manifest) -> None:
    three = manifest(low_shot={"limit": 3, "seed": 8})
    everything = list_records(three, mini, "train")
    assert low_shot_records(three, mini) == low_shot_subset(everything, 3, 8, "mini")
    assert low_shot_records(manifest(), mini) == everything
