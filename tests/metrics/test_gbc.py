import numpy as np
import pytest

from seg_transfer.errors import ConfigError
from seg_transfer.metrics import METRICS, _base, _gbc, gbc, log_negative_gbc, score_all
from seg_transfer.metrics._base import Statistics

COVARIANCES = ["diagonal", "spherical", "full"]


def class_gaussian(z, covariance, floor, ddof):
    scatter = (z - z.mean(axis=0)).T @ (z - z.mean(axis=0)) / max(len(z) - ddof, 1)
    if covariance == "full":
        return scatter + floor * np.eye(z.shape[1])
    variances = np.maximum(np.diag(scatter), floor)
    return np.diag(variances if covariance == "diagonal" else np.full(z.shape[1], variances.mean()))


def slow_gbc(z, labels, covariance="diagonal", floor=1e-4, ddof=1):
    """Eq. 1-3 with dense matrices, over all ordered pairs; z is already projected."""
    total = 0.0
    gaussians = [
        (z[labels == c].mean(axis=0), class_gaussian(z[labels == c], covariance, floor, ddof))
        for c in np.unique(labels)
    ]
    for i, (mean_i, cov_i) in enumerate(gaussians):
        for j, (mean_j, cov_j) in enumerate(gaussians):
            if i != j:
                average = (cov_i + cov_j) / 2
                distance = (mean_i - mean_j) @ np.linalg.inv(average) @ (mean_i - mean_j) / 8
                determinants = [np.linalg.slogdet(matrix)[1] for matrix in (average, cov_i, cov_j)]
                distance += (determinants[0] - (determinants[1] + determinants[2]) / 2) / 2
                total -= np.exp(-distance)
    return total


def principal(features, n_components):
    centered = features - features.mean(axis=0)
    _, _, right = np.linalg.svd(centered, full_matrices=False)
    return centered @ right[:n_components].T


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("n_components", [1, 4, 64])
def test_equals_the_paper_s_equations_written_as_loops(covariance, ddof, n_components, world):
    observations = world()
    z = principal(observations.features, n_components)
    expected = slow_gbc(z, observations.labels, covariance, 0.02, ddof)
    settings = {"n_components": n_components, "covariance": covariance, "variance_floor": 0.02, "ddof": ddof}
    assert gbc(observations.features, observations.labels, **settings) == pytest.approx(expected, rel=1e-10)
    logged = log_negative_gbc(observations.features, observations.labels, **settings)
    assert logged == pytest.approx(np.log(-expected), rel=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_few_observations_span_one_direction_less_than_their_number(covariance, world):
    observations = world(n=20, d=30, n_classes=3)
    z = principal(observations.features, 19)
    assert gbc(observations.features, observations.labels, covariance=covariance, variance_floor=0.02) == pytest.approx(
        slow_gbc(z, observations.labels, covariance, 0.02), rel=1e-10
    )


def test_two_classes_by_hand():
    # Means 1 and 5, variances 2 and 2 (ddof 1): D_B = (4^2 / 4) / 4 + log(2)/2 - (log 2 + log 2)/4 = 1.
    features, labels = np.array([[0.0], [2.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
    assert gbc(features, labels) == pytest.approx(-2 * np.exp(-1), rel=1e-14)
    # ddof 0 halves the variances: D_B = 2.
    assert gbc(features, labels, ddof=0) == pytest.approx(-2 * np.exp(-2), rel=1e-14)


def test_unequal_variances_by_hand():
    # Means 0 and 0, variances 2 and 32: D_B = log(17)/2 - (log 2 + log 32)/4 = log(17/8)/2.
    features, labels = np.array([[-1.0], [1.0], [-4.0], [4.0]]), np.array([7, 7, 9, 9])
    assert gbc(features, labels) == pytest.approx(-2 * np.sqrt(8 / 17), rel=1e-14)


def test_one_observation_per_class_has_the_floor_as_variance():
    # (0.2^2 / (2 * 0.01)) / 4 = 1/2.
    features, labels = np.array([[0.0], [0.2]]), np.array([0, 1])
    for ddof in (0, 1):
        assert gbc(features, labels, variance_floor=0.01, ddof=ddof) == pytest.approx(-2 * np.exp(-0.5), rel=1e-13)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_equal_classes_reach_the_lower_end(covariance):
    block = np.random.default_rng(0).normal(size=(20, 3))
    features, labels = np.concatenate([block] * 4), np.repeat(np.arange(4), 20)
    assert gbc(features, labels, covariance=covariance) == pytest.approx(-12, rel=1e-12)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_directions_without_variance_add_nothing(covariance, world):
    observations = world(d=6)
    padded = np.hstack([observations.features, np.full((400, 3), 0.1), observations.features[:, :2]])
    kept = np.hstack([observations.features[:, :2] * np.sqrt(2), observations.features[:, 2:]])
    assert gbc(padded, observations.labels, covariance=covariance) == pytest.approx(
        slow_gbc(
            np.hstack([principal(kept, 6), np.zeros((400, 5))]) if covariance == "spherical" else principal(kept, 6),
            observations.labels,
            covariance,
        ),
        rel=1e-9,
    )


def test_the_log_ranks_where_gbc_underflows():
    labels = np.repeat([0, 1], 50)
    noise = np.random.default_rng(0).normal(size=(100, 4))
    far, farther = noise + 200 * labels[:, None], noise + 400 * labels[:, None]
    assert gbc(far, labels) == gbc(farther, labels) == 0
    assert log_negative_gbc(farther, labels) < log_negative_gbc(far, labels) < -700


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_large_offsets_do_not_cost_precision(covariance, world):
    observations = world()
    offset = 1e4 * observations.features.std(axis=0)
    moved = (observations.features + offset) - offset
    assert gbc(moved + offset, observations.labels, covariance=covariance) == pytest.approx(
        gbc(moved, observations.labels, covariance=covariance), rel=1e-9
    )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_far_apart_classes_keep_their_variances(covariance):
    # The variances of two near classes, seen from a mean that a far class draws 1e5 standard deviations away.
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [60, 30, 90])
    features = rng.normal(size=(180, 2)) * [1.0, 2.0] + labels[:, None] + 1e5 * (labels == 2)[:, None]
    z = principal(features, 2)
    assert gbc(features, labels, covariance=covariance) == pytest.approx(slow_gbc(z, labels, covariance), rel=1e-7)


@pytest.mark.parametrize("settings", [{}, {"covariance": "spherical"}, {"covariance": "full"}, {"n_components": 3}])
def test_replicates_keep_the_pca_of_the_whole_sample(settings, world):
    observations = world(n=3000, n_images=37)
    metric = METRICS["gbc"]
    settings = {**metric.settings, **settings}
    z = principal(observations.features, settings["n_components"])
    groups = observations.image_index % 10
    expected = [
        slow_gbc(z[groups != group], observations.labels[groups != group], settings["covariance"])
        for group in range(10)
    ]
    if settings == metric.settings:
        score = score_all(observations, ["gbc"])["gbc"]
        np.testing.assert_allclose(score.replicates, expected, rtol=1e-9)
        assert score.standard_error == pytest.approx(np.sqrt(9 * np.var(expected)), rel=1e-7)
    scores = metric.scores(Statistics(observations, groups), **settings)
    np.testing.assert_allclose(scores[1:], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [{"n_components": 0}, {"covariance": "tied"}, {"variance_floor": 0.0}, {"ddof": 2}],
    ids=lambda w: next(iter(w)),
)
def test_settings_outside_their_range_are_refused(wrong, world):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        gbc(world().features, world().labels, **wrong)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_one_pass_over_classes_and_two_passes_over_all_agree(covariance, offset, world, monkeypatch):
    observations = world(n=3000, d=20)
    features = observations.features + offset * observations.features.std(axis=0)
    in_one = gbc(features, observations.labels, n_components=8, covariance=covariance)
    monkeypatch.setattr(_base, "CLASS_MOMENTS_BYTES", 0)
    passes, sums = [], _gbc.sums_about_origins
    monkeypatch.setattr(_gbc, "sums_about_origins", lambda *args: passes.append(1) or sums(*args))
    in_two = gbc(features, observations.labels, n_components=8, covariance=covariance)
    assert in_one == pytest.approx(in_two, rel=1e-9)
    assert passes == [1]


def test_without_pca_the_channels_count_as_they_are(world):
    observations = world(200, 6, 3)
    x, y = observations.features, observations.labels
    means = [x[y == label].mean(axis=0) for label in range(3)]
    variances = [x[y == label].var(axis=0, ddof=1) for label in range(3)]
    expected = 0.0
    for i in range(3):
        for j in range(3):
            if i != j:
                both = variances[i] + variances[j]
                distance = ((means[i] - means[j]) ** 2 / both).sum() / 4 + np.log(both / 2).sum() / 2
                distance -= np.log(variances[i] * variances[j]).sum() / 4
                expected -= np.exp(-distance)
    assert gbc(x, y, n_components=None) == pytest.approx(expected, rel=1e-11)
    assert gbc(x, y, n_components=6) != pytest.approx(expected, rel=1e-3)
