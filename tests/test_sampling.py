import hashlib
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.sampling import class_counts, draw_pixel_sample, keyed_words, nearest_resize_labels, sample_pixels


def probability_of_set(weights, chosen):
    """Successive sampling: over all orders in which the pixels may come, the product of shares of what is left."""
    total = 0.0
    for order in permutations(chosen):
        left, probability = weights.sum(), 1.0
        for pixel in order:
            probability *= weights[pixel] / left
            left -= weights[pixel]
        total += probability
    return total


def checkerboard(height=60, width=80):
    rows, columns = np.mgrid[:height, :width]
    labels = ((rows // 7 + columns // 11) % 4).astype(np.uint8)
    labels[rows * columns % 13 == 5] = 255
    labels[2, 3:5] = 9
    return labels


@pytest.mark.parametrize("counts", [None, np.array([40, 5, 0, 1])])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_sets_of_pixels_are_drawn_with_the_probabilities_of_successive_sampling(counts, k):
    labels = np.array([[0, 0, 255, 1], [1, 3, 0, 255]])
    pixels = np.flatnonzero(labels != 255)
    used = np.bincount(labels[labels != 255]) if counts is None else counts
    weights = 1 / used[labels.reshape(-1)[pixels]]
    sets = {tuple(pixels[list(chosen)]): number for number, chosen in enumerate(combinations(range(6), k))}
    expected = np.array([probability_of_set(weights, chosen) for chosen in combinations(range(6), k)])
    assert expected.sum() == pytest.approx(1)
    n = 6000
    seen = np.zeros(len(sets))
    for image in range(n):
        seen[sets[tuple(sample_pixels(labels, k, class_counts=counts, image_id=str(image)))]] += 1
    often = expected * n >= 5
    observed, wanted = (
        np.append(seen[often], seen[~often].sum()),
        np.append(expected[often], expected[~often].sum()) * n,
    )
    held = wanted > 0
    assert chisquare(observed[held], wanted[held]).pvalue > 1e-3
    # The test has teeth: uniform sampling would fail it.
    if len(sets) > 1:
        assert chisquare(observed[held], np.full(held.sum(), n / held.sum())).pvalue < 1e-6


def test_the_sample_of_one_map_stays_what_it_was():
    labels = checkerboard()
    counts = np.array([90_000, 50_000, 20_000, 7_000, 0, 0, 0, 0, 0, 300])
    pixels = sample_pixels(labels, 500, class_counts=counts, dataset="world", image_id="scene/0001", seed=7)
    assert pixels.dtype == np.int64
    assert pixels[:8].tolist() == [23, 28, 30, 34, 36, 38, 40, 42]
    assert (
        hashlib.sha256(pixels.astype("<i8").tobytes()).hexdigest()
        == "8f01fdadf7ffde02605b2a87a5c53aff5b2062220f80671cd1266c1b24e9eab0"
    )


def test_pixels_are_distinct_sorted_and_labeled():
    labels = checkerboard()
    pixels = sample_pixels(labels, 700)
    assert len(pixels) == 700
    assert (np.diff(pixels) > 0).all()
    assert (labels.reshape(-1)[pixels] != 255).all()


def test_rare_classes_are_seen_as_often_as_common_ones():
    labels = np.zeros((100, 100), dtype=np.uint8)
    labels[:10], labels[99, 90:] = 1, 2
    drawn = np.concatenate([labels.reshape(-1)[sample_pixels(labels, 1, image_id=str(i))] for i in range(3000)])
    assert chisquare(np.bincount(drawn, minlength=3)).pvalue > 1e-3


def test_counts_of_the_whole_subset_outweigh_those_of_the_image():
    # Class 1 is as common as class 0 in this image and nine times rarer in the subset: nine draws in ten are class 1.
    labels = np.tile(np.array([[0, 1]], dtype=np.uint8), (50, 25))
    counts = np.array([900_000, 100_000])
    drawn = [labels.reshape(-1)[sample_pixels(labels, 1, class_counts=counts, image_id=str(i))][0] for i in range(3000)]
    assert chisquare(np.bincount(drawn), [300, 2700]).pvalue > 1e-3
    assert chisquare(np.bincount(drawn), [1500, 1500]).pvalue < 1e-6


def test_all_labeled_pixels_where_there_are_no_more():
    labels = checkerboard()
    labeled = np.flatnonzero(labels != 255)
    np.testing.assert_array_equal(sample_pixels(labels, len(labeled)), labeled)
    np.testing.assert_array_equal(sample_pixels(labels, 10**6), labeled)
    assert len(sample_pixels(labels, len(labeled) - 1)) == len(labeled) - 1


@pytest.mark.parametrize("counts", [None, np.array([1, 2])])
def test_an_image_without_labels_gives_no_pixel(counts):
    pixels = sample_pixels(np.full((4, 5), 255, dtype=np.uint8), class_counts=counts)
    assert pixels.dtype == np.int64
    assert pixels.shape == (0,)


def test_dtype_memory_order_and_names_of_classes_do_not_matter():
    labels = checkerboard()
    expected = sample_pixels(labels, 50)
    for same in (np.asfortranarray(labels), labels.astype(np.int32), np.repeat(labels, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(sample_pixels(same, 50), expected)
    renamed = np.where(labels == 255, 255, labels.astype(np.int64) * 20 + 1)
    np.testing.assert_array_equal(sample_pixels(renamed, 50), expected)
    shifted = np.where(labels == 255, 0, labels.astype(np.int64) + 1)
    np.testing.assert_array_equal(sample_pixels(shifted, 50, ignore_value=0), expected)


def test_the_key_is_seed_dataset_and_image_without_confusion():
    labels = checkerboard()
    keys = [
        {"seed": 0, "dataset": "ab", "image_id": "c"},
        {"seed": 0, "dataset": "a", "image_id": "bc"},
        {"seed": 0, "dataset": "abc", "image_id": ""},
        {"seed": 0, "dataset": 'a","b', "image_id": "c"},
        {"seed": 0, "dataset": "a", "image_id": 'b","c'},
        {"seed": 1, "dataset": "ab", "image_id": "c"},
        {"seed": 10, "dataset": "ab", "image_id": "c"},
        {"seed": 0, "dataset": "ab", "image_id": "ü\0"},
    ]
    drawn = {tuple(sample_pixels(labels, 50, **key)) for key in keys}
    assert len(drawn) == len(keys)
    assert {tuple(sample_pixels(labels, 50, **key)) for key in reversed(keys)} == drawn
    as_numpy = sample_pixels(labels, 50, seed=np.int64(1), dataset="ab", image_id="c")
    assert tuple(as_numpy) == tuple(sample_pixels(labels, 50, **keys[5]))


@pytest.mark.parametrize(
    ("labels", "counts", "message"),
    [
        ([[0, 2, 1]], [5, 5], "label map scene holds label 2"),
        ([[0, 1, 1]], [5, 0], "label map scene holds label 1"),
        ([[0, -1, 1]], [5, 5], "label map scene holds label -1"),
        ([[0, -1, 1]], None, "label map scene holds label -1"),
        ([0, 1], None, r"must be \(H, W\) integers"),
        ([[0.0, 1.0]], None, r"must be \(H, W\) integers"),
    ],
)
def test_labels_that_are_not_counted_are_refused(labels, counts, message):
    counts = None if counts is None else np.array(counts)
    with pytest.raises(ObservationsError, match=message) as caught:
        sample_pixels(np.array(labels), 1, class_counts=counts, image_id="scene")
    assert "\n" not in str(caught.value)


def test_no_pixel_is_no_sample():
    with pytest.raises(ConfigError, match="n_pixels is 0"):
        sample_pixels(checkerboard(), 0)


def test_class_counts_add_over_maps():
    maps = [checkerboard(), np.array([[3, 3], [255, 0]]), np.full((2, 2), 255, dtype=np.uint8)]
    counts = class_counts(iter(maps), n_classes=12)
    assert counts.dtype == np.int64
    assert counts.tolist() == [sum(int(np.sum(labels == c)) for labels in maps) for c in range(12)]


@pytest.mark.parametrize("wrong", [3, -1])
def test_class_counts_refuse_a_class_that_does_not_exist(wrong):
    with pytest.raises(ObservationsError, match=f"label map number 1 holds label {wrong}"):
        class_counts([np.array([[0]]), np.array([[2, wrong]])], n_classes=3)


@pytest.mark.parametrize(
    ("shape", "grid"), [((7, 12), (3, 5)), ((4, 4), (4, 4)), ((3, 2), (7, 9)), ((713, 1), (179, 1))]
)
def test_nearest_resize_takes_the_cell_under_the_center(shape, grid):
    labels = np.arange(shape[0] * shape[1]).reshape(shape)
    resized = nearest_resize_labels(labels, grid)
    assert resized.shape == grid
    for i, j in np.ndindex(grid):
        row, column = int((i + 0.5) * shape[0] / grid[0]), int((j + 0.5) * shape[1] / grid[1])
        assert resized[i, j] == labels[row, column]


def test_the_sample_of_a_target_is_that_of_each_image():
    maps = {"b": checkerboard(), "a": checkerboard(30, 20), "empty": np.full((5, 5), 255, dtype=np.uint8)}
    sample = draw_pixel_sample(maps.items(), 40, dataset="world", seed=3)
    assert sample.image_ids == ("b", "a", "empty")
    assert sample.image_sizes.tolist() == [[60, 80], [30, 20], [5, 5]]
    for number, (name, labels) in enumerate(maps.items()):
        mine = sample.image_index == number
        expected = sample_pixels(labels, 40, dataset="world", image_id=name, seed=3)
        flat = sample.rows[mine].astype(np.int64) * labels.shape[1] + sample.columns[mine]
        np.testing.assert_array_equal(flat, expected)
        np.testing.assert_array_equal(sample.labels[mine], labels.reshape(-1)[expected])


def test_a_target_needs_an_image():
    with pytest.raises(ObservationsError, match="'world' has no label map"):
        draw_pixel_sample([], dataset="world")


def test_keyed_words_depend_on_the_key_alone():
    words = keyed_words([3, "camvid", "image"], 5)
    assert words.dtype == np.uint64
    assert keyed_words([3, "camvid", "image"], 2).tolist() == words[:2].tolist()
    others = [[4, "camvid", "image"], [3, "camvid", "image2"], [3, "camvidi", "mage"], ["3", "camvid", "image"]]
    assert len({keyed_words(key, 1)[0] for key in [*others, [3, "camvid", "image"]]}) == 5
