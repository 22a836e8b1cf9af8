"""A bit that a disk or a network flipped is never read as another number."""

import random

import pyarrow.parquet as pq
import pytest

from seg_transfer.errors import ResultsError
from seg_transfer.store.tables import PERFORMANCE, SAMPLES, SCORES, read_table

FLIPS = 300


def test_of_300_flipped_bits_none_is_read_back_as_another_number(finished, tmp_path):
    schemas = {"scores": SCORES, "performance": PERFORMANCE, "samples": SAMPLES}
    files = [
        (file, schema) for kind, schema in schemas.items() for file in sorted((finished.run / kind).rglob("*.parquet"))
    ]
    chance, noticed, harmless = random.Random(0), 0, 0
    for _ in range(FLIPS):
        file, schema = chance.choice(files)
        content = bytearray(file.read_bytes())
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
        flipped = tmp_path / "flipped.parquet"
        flipped.write_bytes(content)
        try:
            table = read_table(flipped, schema)
        except ResultsError:
            noticed += 1
            continue
        whole = read_table(file, schema)
        assert table.equals(whole), place
        harmless += 1
    assert noticed + harmless == FLIPS
    assert noticed > FLIPS / 4


def test_without_checksums_some_are_read_as_another_number(finished, tmp_path):
    """The test finds what it looks for: the same flips in a file without page checksums."""
    file = next(iter(sorted((finished.run / "scores").rglob("*.parquet"))))
    plain = tmp_path / "plain.parquet"
    pq.write_table(read_table(file, SCORES), plain, compression="none", write_page_checksum=False, use_dictionary=False)
    whole, content = read_table(plain, SCORES), plain.read_bytes()
    silent = 0
    for bit in range(0, 8 * len(content), 97):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped.parquet").write_bytes(flipped)
        try:
            silent += not read_table(tmp_path / "flipped.parquet", SCORES).equals(whole)
        except (ResultsError, ValueError):
            continue
    assert silent > 0


def is_damaged(file, schema):
    try:
        read_table(file, schema)
    except ResultsError:
        return True
    return False


@pytest.mark.parametrize("stage", ["score-pairs", "finetune-pairs"])
def test_a_damaged_file_is_named_and_does_not_count_as_finished(stage, finished, copy_of):
    workspace = copy_of(finished)
    kind = {"score-pairs": "scores", "finetune-pairs": "performance"}[stage]
    file = workspace.run / kind / "day_street/cells_dark.parquet"
    schema, whole = {"scores": SCORES, "performance": PERFORMANCE}[kind], file.read_bytes()
    for place in range(len(whole) // 3, len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        if is_damaged(file, schema):
            break
    assert str(file) in workspace.call(stage).reason(7)
