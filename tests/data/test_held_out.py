"""Images that judge networks: a hash chooses them, tiles stay together, and of few images each judges once."""

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_transfer.data.held_out import Fold, folds_of, image_of
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError


def ids(records: Sequence[Record]) -> list[str]:
    return [record.image_id for record in records]


def images(n: int) -> list[Record]:
    names = [f"train/{number:03}" for number in range(n)]
    return [Record(name, Path(f"{name}.jpg"), Path(f"{name}.png")) for name in names]


def tiles(record: Record, n: int = 3) -> list[Record]:
    parts = ((number, (0, 64 * number, 64, 64)) for number in range(n))
    return [replace(record, image_id=f"{record.image_id}/{number}", window=window) for number, window in parts]


def rows(n: int) -> list[Record]:
    """Of one table."""
    table = Path("train.parquet")
    return [Record(f"train/{number:03}", table, table, row=number) for number in range(n)]


def shuffled(records: Sequence[Record], seed: int = 0) -> list[Record]:
    return random.Random(seed).sample(records, len(records))


def sides(folds: Sequence[Fold]) -> list[tuple[frozenset[str], frozenset[str]]]:
    return [(frozenset(ids(fold.train)), frozenset(ids(fold.held_out))) for fold in folds]


@pytest.mark.parametrize(("n", "share", "held_out"), [(30, 0.2, 6), (30, 0.5, 15), (31, 0.25, 8), (47, 0.2, 9)])
def test_thirty_images_are_enough_to_hold_out_a_share_of_them(n: int, share: float, held_out: int) -> None:
    (fold,) = folds_of(images(n), share, seed=0)
    assert len(fold.held_out) == held_out
    assert sorted(ids(fold.train) + ids(fold.held_out)) == ids(images(n))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
@pytest.mark.parametrize(("n", "sizes"), [(2, [1, 1]), (3, [1, 2]), (10, [5, 5]), (29, [14, 15])])
def test_of_fewer_images_each_half_judges_what_the_other_one_trained(n: int, sizes: list[int], share: float) -> None:
    first, second = folds_of(images(n), share, seed=0)
    assert [len(first.held_out), len(second.held_out)] == sizes
    assert (first.train, first.held_out) == (second.held_out, second.train)
    assert sorted(ids(first.held_out) + ids(second.held_out)) == ids(images(n))


def test_held_out_images_are_first_by_a_hash_of_seed_and_id() -> None:
    def place(name: str) -> str:
        return hashlib.sha256(f"3\0held out\0{name}".encode()).hexdigest()

    ordered = sorted(ids(images(40)), key=place)
    (fold,) = folds_of(images(40), 0.2, seed=3)
    assert set(ids(fold.held_out)) == set(ordered[:8])
    first, _ = folds_of(images(9), 0.2, seed=3)
    assert set(ids(first.held_out)) == set(sorted(ids(images(9)), key=place)[:4])


def test_held_out_golden() -> None:
    """Another choice would make every stored race worthless."""
    (fold,) = folds_of(images(30), 0.2, seed=0)
    assert ids(fold.held_out) == [f"train/{number:03}" for number in (1, 12, 14, 19, 23, 24)]


@pytest.mark.parametrize("n", [3, 29, 30, 40])
@pytest.mark.parametrize("seed", range(5))
def test_tiles_of_an_image_are_never_separated(n: int, seed: int) -> None:
    records = [tile for record in images(n) for tile in tiles(record)]
    for fold in folds_of(shuffled(records, seed), 0.2, seed):
        train, held_out = ({record.image for record in side} for side in (fold.train, fold.held_out))
        assert not train & held_out
        assert len(fold.train) == 3 * len(train)
        assert len(fold.held_out) == 3 * len(held_out)


def test_a_share_is_one_of_images_and_not_of_tiles() -> None:
    large, *small = images(30)
    records = [*tiles(large, n=200), *small]
    (fold,) = folds_of(records, 0.2, seed=0)
    assert len({record.image for record in fold.held_out}) == 6
    assert len(folds_of([tile for record in images(29) for tile in tiles(record)], 0.2, seed=0)) == 2


def test_rows_of_a_table_are_images_of_their_own() -> None:
    (fold,) = folds_of(rows(30), 0.2, seed=0)
    assert len(fold.held_out) == 6
    first, second = folds_of(rows(2), 0.2, seed=0)
    assert {len(fold.held_out) for fold in (first, second)} == {1}


def test_tiles_of_a_row_are_never_separated() -> None:
    records = shuffled([tile for row in rows(30) for tile in tiles(row)])
    (fold,) = folds_of(records, 0.2, seed=0)
    assert not {record.row for record in fold.train} & {record.row for record in fold.held_out}
    assert len(fold.held_out) == 18


@given(st.randoms(use_true_random=False), st.sampled_from([2, 9, 29, 30, 41]), st.integers(0, 99))
def test_the_choice_is_the_same_for_any_order_of_records(order: random.Random, n: int, seed: int) -> None:
    records = [tile for record in images(n) for tile in tiles(record)]
    mixed = order.sample(records, len(records))
    assert sides(folds_of(mixed, 0.3, seed)) == sides(folds_of(records, 0.3, seed))


@pytest.mark.parametrize("n", [10, 40])
def test_records_stay_in_the_order_in_which_they_were_given(n: int) -> None:
    records = shuffled([tile for record in images(n) for tile in tiles(record)])
    for fold in folds_of(records, 0.3, seed=0):
        assert list(fold.train) == [record for record in records if record in fold.train]
        assert list(fold.held_out) == [record for record in records if record in fold.held_out]


def test_the_choice_does_not_depend_on_where_the_files_are() -> None:
    moved = [replace(record, image=Path("/elsewhere") / record.image) for record in images(40)]
    assert sides(folds_of(moved, 0.2, seed=0)) == sides(folds_of(images(40), 0.2, seed=0))


@pytest.mark.parametrize("n", [20, 40])
def test_other_seeds_choose_other_images(n: int) -> None:
    chosen = {frozenset(ids(folds_of(images(n), 0.2, seed)[0].held_out)) for seed in range(10)}
    assert len(chosen) == 10


def test_every_image_is_held_out_equally_often() -> None:
    times = Counter(name for seed in range(1000) for name in ids(folds_of(images(30), 0.2, seed)[0].held_out))
    assert set(times) == set(ids(images(30)))
    assert all(137 <= n <= 263 for n in times.values())  # 200 expected, standard deviation 12.6


def test_a_larger_share_holds_out_the_same_images_and_more() -> None:
    chosen = [set(ids(folds_of(images(50), share, seed=0)[0].held_out)) for share in (0.1, 0.2, 0.5, 0.9)]
    assert [len(one) for one in chosen] == [5, 10, 25, 45]
    assert all(small < large for small, large in itertools.pairwise(chosen))


@pytest.mark.parametrize(("share", "held_out"), [(1e-9, 1), (0.016, 1), (0.984, 29), (1 - 1e-9, 29)])
def test_any_share_leaves_an_image_on_each_side(share: float, held_out: int) -> None:
    (fold,) = folds_of(images(30), share, seed=0)
    assert (len(fold.train), len(fold.held_out)) == (30 - held_out, held_out)


@pytest.mark.parametrize(
    ("records", "number"), [([], 0), (images(1), 1), (tiles(images(1)[0]), 1), (tiles(rows(1)[0]), 1)]
)
def test_one_image_cannot_be_divided(records: list[Record], number: int) -> None:
    with pytest.raises(DataError) as error:
        folds_of(records, 0.5, seed=0)
    needed = "one to train on and one to judge by are needed; add images"
    assert str(error.value) == f"{number} labeled image: {needed}"


def test_an_id_that_is_no_unicode_can_be_held_out() -> None:
    odd = Record("train/\udcff", Path("train/\udcff.jpg"), Path("train/\udcff.png"))
    first, second = folds_of([*images(2), odd], 0.5, seed=0)
    assert odd in first.held_out + second.held_out


def test_images_are_told_apart_by_file_and_row() -> None:
    record, row = images(1)[0], rows(1)[0]
    assert {image_of(tile) for tile in tiles(record)} == {image_of(record)}
    assert len({image_of(one) for one in (*images(3), *rows(3))}) == 6
    assert image_of(replace(row, image=Path("other.parquet"))) != image_of(row)
