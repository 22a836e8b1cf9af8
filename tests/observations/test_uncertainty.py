"""Who is first and how sure that is: by hand, against simulated truth, and under changes that must not matter."""

import numpy as np
import pytest
from scipy.stats import norm

from seg_transfer.errors import ObservationsError
from seg_transfer.observations.uncertainty import first_place, first_place_by_mean_rank


def means_without_each(values):
    """Images (n, m) -> the mean of every source, and the mean without each image in turn."""
    m = values.shape[1]
    return values.mean(axis=1), (values.sum(axis=1, keepdims=True) - values) / (m - 1)


def images(n=4, m=10, seed=0, noise=1.0):
    """Scores of n sources on m images: what is hard for one is hard for all, and images differ more than sources."""
    rng = np.random.default_rng(seed)
    hard = -900 + 30 * rng.normal(size=m)
    return hard + np.arange(n)[:, None] * 0.7 + noise * rng.normal(size=(n, m))


def test_two_sources_by_hand():
    # Differences 1, 2, 0 without each group: mean 1, squares 2, standard error sqrt(2/3 * 2).
    place = first_place([5.0, 4.0], [[5.0, 6.0, 4.0], [4.0, 4.0, 4.0]])
    assert place.best == 0
    np.testing.assert_allclose(place.difference, [0, 1])
    np.testing.assert_allclose(place.difference_error, [0, np.sqrt(4 / 3)])
    np.testing.assert_allclose(place.standard_error, [np.sqrt(4 / 3), 0])
    assert place.tied.tolist() == [True, True]  # 1 < 1.96 * 1.155


@pytest.mark.parametrize(("second", "tied"), [(2.736, False), (2.737, True)])
def test_the_group_ends_at_1_96_paired_standard_errors(second, tied):
    # 5 - 1.959964 * sqrt(4 / 3) = 2.73683
    place = first_place([5.0, second], np.array([[5.0, 6.0, 4.0], [second] * 3]))
    assert place.tied[1] == tied


def test_the_error_of_a_mean_is_that_of_the_textbook():
    values = images()
    place = first_place(*means_without_each(values))
    np.testing.assert_allclose(place.standard_error, values.std(axis=1, ddof=1) / np.sqrt(10), rtol=1e-9)
    differences = values[place.best] - values
    np.testing.assert_allclose(place.difference_error, differences.std(axis=1, ddof=1) / np.sqrt(10), rtol=1e-8)


def test_what_all_sources_share_cancels():
    place = first_place(*means_without_each(images()))
    apart = np.sqrt(place.standard_error[place.best] ** 2 + place.standard_error**2)
    others = np.arange(4) != place.best
    assert (place.difference_error[others] < 0.1 * apart[others]).all()


def test_the_probability_of_two_is_the_normal_distribution_s():
    values = images(n=2, noise=2.0, seed=8)
    place = first_place(*means_without_each(values))
    other = 1 - place.best
    expected = norm.cdf(place.difference[other] / place.difference_error[other])
    assert place.probability[place.best] == pytest.approx(expected, abs=0.01)
    assert place.probability.sum() == pytest.approx(1)
    assert 0.6 < place.probability[place.best] < 0.999


def test_order_offset_and_unit_do_not_matter():
    scores, replicates = means_without_each(images(noise=2.0))
    place, order = first_place(scores, replicates), np.array([2, 0, 3, 1])
    for other in (
        first_place(scores[order], replicates[order]),
        first_place(7 * scores[order] + 3, 7 * replicates[order] + 3),
        first_place(scores[order], replicates[order][:, ::-1]),
    ):
        assert order[other.best] == place.best
        assert other.tied.tolist() == place.tied[order].tolist()
        np.testing.assert_allclose(other.probability, place.probability[order], atol=0.012)


def test_a_group_that_one_source_lacks_counts_for_none():
    scores, replicates = means_without_each(images())
    torn = replicates.copy()
    torn[2, 4] = np.nan
    expected = first_place(scores, np.delete(replicates, 4, axis=1))
    found = first_place(scores, torn)
    np.testing.assert_array_equal(found.difference_error, expected.difference_error)


@pytest.mark.parametrize("replicates", [None, np.full((3, 2), np.nan), np.ones((3, 1))])
def test_without_replicates_nothing_is_known(replicates):
    place = first_place([1.0, 3.0, 3.0], replicates)
    assert (place.best, place.has_uncertainty) == (1, False)
    assert place.tied.tolist() == [False, True, True]
    assert np.isnan([place.standard_error, place.difference_error, place.probability]).all()


def test_a_stricter_level_ties_more():
    scores, replicates = means_without_each(images(n=12, noise=4.0))
    tied = [first_place(scores, replicates, alpha=alpha).tied for alpha in (0.3, 0.05, 0.01)]
    assert tied[0].sum() < tied[1].sum() < tied[2].sum()
    assert (tied[0] <= tied[1]).all()
    assert (tied[1] <= tied[2]).all()


def test_the_truly_best_is_in_the_group_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(5), 0
    for _ in range(600):
        values = np.array([[0.0], [0.35], [0.2]]) + rng.normal(size=30) + rng.normal(size=(3, 30))
        hits += bool(first_place(*means_without_each(values)).tied[1])
    # 95 % for one comparison. The true winner is compared with whoever leads, when it does not lead itself.
    assert 0.93 < hits / 600 <= 1


def test_metrics_that_agree_make_a_certain_mean_rank():
    scores, replicates = means_without_each(images(noise=0.1))
    place = first_place_by_mean_rank({"a": scores, "b": 100 * scores}, {"a": replicates, "b": 100 * replicates})
    np.testing.assert_array_equal(place.score, [-4, -3, -2, -1])
    assert place.tied.tolist() == [False, False, False, True]
    assert place.probability[3] > 0.99


def test_metrics_that_contradict_leave_a_tie():
    scores, replicates = means_without_each(images(n=2, noise=0.1))
    place = first_place_by_mean_rank({"a": scores, "b": -scores}, {"a": replicates, "b": -replicates})
    np.testing.assert_array_equal(place.score, [-1.5, -1.5])
    assert place.tied.all()
    np.testing.assert_allclose(place.probability, 0.5, atol=0.01)


def test_the_mean_rank_of_one_metric_ties_the_same_sources():
    scores, replicates = means_without_each(images(n=6, noise=3.0, seed=2))
    one = first_place(scores, replicates)
    other = first_place_by_mean_rank({"a": scores}, {"a": replicates})
    assert other.best == one.best
    far = np.abs(one.difference - 1.96 * one.difference_error) > 0.1
    np.testing.assert_array_equal(one.tied[far], other.tied[far])
    np.testing.assert_allclose(one.probability, other.probability, atol=1e-12)


def test_a_metric_without_replicates_leaves_the_mean_rank_unknown():
    scores, replicates = means_without_each(images())
    place = first_place_by_mean_rank({"a": scores, "b": scores}, {"a": replicates, "b": None})
    assert not place.has_uncertainty
    assert place.tied.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("scores", "replicates", "reason"),
    [
        ([], None, "score: scores have shape"),
        ([1.0, np.nan], None, "finite"),
        ([1.0, 2.0], np.ones((3, 4)), "score: replicates have shape \\(3, 4\\)"),
    ],
)
def test_what_does_not_fit_is_refused(scores, replicates, reason):
    with pytest.raises(ObservationsError, match=reason):
        first_place(scores, replicates)


def test_metrics_of_other_numbers_of_sources_are_refused():
    with pytest.raises(ObservationsError, match="b: scores have shape"):
        first_place_by_mean_rank({"a": [1.0, 2.0], "b": [1.0]}, {})
