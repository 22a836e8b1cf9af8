"""The feature store gives back what was put in, to the last bit, or nothing at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from seg_transfer.errors import ResultsError
from seg_transfer.features.store import read_features, to_float16, write_features
from seg_transfer.observations import Observations

KEY = "5e" * 32
PIXELS_OF_IMAGE = [4, 9, 1, 30, 16]
COLUMNS = (b"features", b"label", b"source_probs", b"image_index", b"image_embedding")
FIELDS = ("features", "labels", "source_probs", "image_index", "image_embeddings")


@pytest.fixture
def observations() -> Observations:
    """Correlated features far from zero, few pixels of some images; image 2 of the target has none."""
    generator = np.random.default_rng(8)
    index = np.repeat([0, 1, 3, 4, 5], PIXELS_OF_IMAGE)
    mixing = generator.normal(size=(6, 6))
    features = generator.normal(size=(len(index), 6)) @ mixing + [300, -5, 0, 0.001, 2000, -60000]
    labels = generator.choice([0, 2, 254], p=[0.7, 0.2, 0.1], size=len(index)).astype(np.uint8)
    probabilities = generator.dirichlet([0.3, 1, 5], size=len(index)).astype(np.float32)
    embeddings = (generator.normal(size=(5, 6)) @ mixing + 70).astype(np.float32)
    return Observations(features.astype(np.float32), labels, probabilities, index.astype(np.int32), embeddings)


@pytest.fixture
def file(tmp_path: Path, observations: Observations) -> Path:
    path = tmp_path / "features" / "camvid" / "nyuv2.parquet"
    write_features(path, to_float16(observations), KEY)
    return path


def assert_same(found: Observations | None, expected: Observations) -> None:
    assert found is not None
    for field in FIELDS:
        array, wanted = getattr(found, field), getattr(expected, field)
        assert array.dtype == wanted.dtype, field
        assert array.shape == wanted.shape
        assert array.tobytes() == wanted.tobytes(), field


def test_rounding_is_that_of_float16(observations):
    kept = to_float16(observations)
    np.testing.assert_array_equal(kept.features, observations.features.astype(np.float16))
    np.testing.assert_array_equal(kept.source_probs, observations.source_probs.astype(np.float16))
    np.testing.assert_array_equal(kept.image_embeddings, observations.image_embeddings.astype(np.float16))
    assert kept.features.dtype == kept.source_probs.dtype == kept.image_embeddings.dtype == np.float16
    np.testing.assert_allclose(kept.features, observations.features, rtol=2**-11, atol=2**-24)


def test_observations_come_back_bit_for_bit(file, observations):
    assert_same(read_features(file, KEY), to_float16(observations))


def test_signed_zeros_subnormals_and_the_largest_number_survive(tmp_path):
    special = np.array([[-0.0, 6e-8], [65504, -65504], [1 / 3, 2.0**-24]], np.float32)
    labels, index = np.array([0, 1, 1], np.uint8), np.array([0, 0, 1], np.int32)
    kept = to_float16(Observations(special, labels, np.array([[1.0, 0.0]] * 3), index, special[:2]))
    write_features(tmp_path / "features.parquet", kept, KEY)
    assert_same(read_features(tmp_path / "features.parquet", KEY), kept)


def test_one_row_group_per_image(file):
    stored = pq.ParquetFile(file)
    assert [stored.metadata.row_group(group).num_rows for group in range(stored.num_row_groups)] == PIXELS_OF_IMAGE
    assert stored.read_row_group(2)["image_index"].to_pylist() == [3]


def test_plain_readers_get_the_numbers(file, observations):
    table = pq.read_table(file)
    rows = np.stack([np.frombuffer(row, np.float16) for row in table["features"].to_pylist()])
    np.testing.assert_array_equal(rows, observations.features.astype(np.float16))


def test_the_embedding_of_an_image_is_in_its_first_row(file, observations):
    column = pq.read_table(file)["image_embedding"].to_pylist()
    first = np.cumsum([0, *PIXELS_OF_IMAGE[:-1]])
    assert [row for row, value in enumerate(column) if value is not None] == first.tolist()
    found = np.stack([np.frombuffer(column[row], np.float16) for row in first])
    np.testing.assert_array_equal(found, observations.image_embeddings.astype(np.float16))


def test_other_settings_find_nothing(file):
    assert read_features(file, "00" * 32) is None
    assert read_features(file, "") is None
    assert read_features(file.with_name("other.parquet"), KEY) is None


def test_a_file_without_a_key_matches_no_key(file):
    pq.write_table(pq.read_table(file).replace_schema_metadata({}), file)
    assert read_features(file, KEY) is None
    assert read_features(file, "") is None


def test_writing_again_replaces(file, observations):
    write_features(file, to_float16(observations), "11" * 32)
    assert read_features(file, KEY) is None
    assert_same(read_features(file, "11" * 32), to_float16(observations))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("value", [65520.0, -65520.0, 1e30])
def test_a_feature_beyond_float16_is_refused(observations, value):
    observations.features[5, 1] = value
    with pytest.raises(ResultsError, match="exceeds 65504, the range of float16; score this study with keep_features"):
        to_float16(observations)


def test_an_embedding_beyond_float16_is_refused(observations):
    observations.image_embeddings[2, 0] = 7e4
    with pytest.raises(ResultsError, match="exceeds 65504, the range of float16"):
        to_float16(observations)


def test_a_backbone_has_no_probabilities(tmp_path, observations):
    backbone = to_float16(replace(observations, source_probs=None))
    write_features(tmp_path / "features.parquet", backbone, KEY)
    found = read_features(tmp_path / "features.parquet", KEY)
    assert found.source_probs is None
    np.testing.assert_array_equal(found.features, backbone.features)


@pytest.mark.parametrize("lacking", ["features", "image_index", "image_embeddings"])
def test_incomplete_observations_are_refused(tmp_path, observations, lacking):
    parts = {field: getattr(observations, field) for field in FIELDS} | {lacking: None}
    if lacking == "image_index":
        parts["image_embeddings"] = None
    with pytest.raises(ResultsError, match="the feature store needs observations with features, image"):
        write_features(tmp_path / "features.parquet", Observations(**parts), KEY)
    assert not (tmp_path / "features.parquet").exists()


def outcome(file: Path) -> Observations | str | None:
    try:
        return read_features(file, KEY)
    except ResultsError as error:
        message = str(error)
        assert message.startswith(f"{file}: damaged feature file (")
        assert "\n" not in message
        return message


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert isinstance(outcome(file), str)


def test_a_missing_column_is_refused(file):
    pq.write_table(pq.read_table(file).drop_columns(["source_probs"]), file)
    assert "source_probs" in str(outcome(file))


def test_no_flipped_bit_is_read_as_other_observations(file, observations):
    """One bit in each of 150 places all over the file: refused, drawn again, or without any effect."""
    whole = file.read_bytes()
    expected = to_float16(observations)
    generator = np.random.default_rng(6)
    names = [whole.rindex(name) for name in (*COLUMNS, b"content_key")]
    places = [(place, int(generator.integers(8))) for place in np.linspace(0, len(whole) - 1, 150).astype(int)]
    refused = 0
    for place, bit in places + [(start + 1, bit) for start in names for bit in (0, 7)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        found = outcome(file)
        refused += isinstance(found, str)
        if isinstance(found, Observations):
            assert_same(found, expected)
    assert refused > 50


def test_labels_above_255_are_stored_wider_and_come_back(tmp_path, observations):
    labels = observations.labels.astype(np.uint16)
    labels[:2] = [255, 4095]
    wide = to_float16(replace(observations, labels=labels))
    write_features(tmp_path / "wide.parquet", wide, KEY)
    found = read_features(tmp_path / "wide.parquet", KEY)
    assert found is not None
    assert found.labels.dtype == np.uint16
    np.testing.assert_array_equal(found.labels, labels)
    assert str(pq.read_schema(tmp_path / "wide.parquet").field("label").type) == "uint16"


def test_labels_up_to_255_are_stored_as_bytes(file):
    assert str(pq.read_schema(file).field("label").type) == "uint8"
