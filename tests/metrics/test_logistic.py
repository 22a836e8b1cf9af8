from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from seg_transfer.metrics import _logistic
from seg_transfer.metrics._logistic import fit


def slow_loss(x, codes, weights, intercepts):
    logits = x @ weights + intercepts
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(x)), codes] - np.log(np.exp(logits).sum(axis=1))
    return -own.mean() + (weights**2).sum() / (2 * len(x))


def centered(observations):
    return observations.features - observations.features.mean(axis=0), observations.codes


def probabilities(x, weights, intercepts):
    logits = x @ weights + intercepts
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 150, 3), (90, 40, 2)])
def test_finds_the_minimum_that_scikit_learn_finds(shape, world):
    x, codes = centered(world(*shape))
    found = fit(x, codes)
    # Its C weighs the sum of the losses against |W|^2 / 2. Two classes share one column there: half of it for either.
    two = shape[2] == 2
    other = LogisticRegression(C=1.0 + two, tol=1e-12, max_iter=10_000).fit(x, codes)
    weights, intercepts = other.coef_.T, other.intercept_
    if two:
        weights, intercepts = weights * [-0.5, 0.5], intercepts * [-0.5, 0.5]
    assert found.loss <= slow_loss(x, codes, weights, intercepts) + 1e-14
    assert found.loss == pytest.approx(slow_loss(x, codes, weights, intercepts), rel=1e-9)
    np.testing.assert_allclose(found.probabilities, probabilities(x, weights, intercepts), atol=1e-5)


@pytest.mark.parametrize("shape", [(400, 10, 5), (60, 150, 3), (500, 40, 12)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_gradient_is_zero_at_the_minimum(shape, scale, world):
    """The weights are those that the errors pull at, and give the loss and the probabilities again."""
    x, codes = centered(world(*shape))
    x *= scale
    found = fit(x, codes)
    errors = found.probabilities - np.eye(shape[2])[codes]
    weights = -x.T @ errors
    intercepts = (np.log(found.probabilities) - x @ weights)[0]
    # Newton's method ends where a step would lower the loss by TOLERANCE of it, which bounds how far all probabilities
    # together are from the minimum's; x x' carries that into the logits, and the first of them into the intercepts.
    from_minimum = np.sqrt(len(x) * _logistic.TOLERANCE * found.loss)
    rounding = (1 + np.linalg.norm(x, 2) ** 2) * from_minimum
    np.testing.assert_allclose(probabilities(x, weights, intercepts), found.probabilities, rtol=0, atol=rounding)
    # At a minimum the loss changes with the square of what the logits do.
    assert slow_loss(x, codes, weights, intercepts) == pytest.approx(found.loss, rel=1e-12, abs=rounding**2)
    np.testing.assert_allclose(errors.mean(axis=0), 0, atol=from_minimum)


def evaluate(problem, weights):
    return _logistic._evaluate(problem, weights, problem.logits(weights))


def test_loss_and_gradient_agree(world):
    x, codes = centered(world(80, 4, 3))
    problem, rng = _logistic._problem(x, codes), np.random.default_rng(0)
    weights, step = rng.normal(size=(2, 5, 3))
    point = evaluate(problem, weights)
    ahead, behind = (evaluate(problem, weights + h * step).loss for h in (1e-5, -1e-5))
    assert (ahead - behind) / 2e-5 == pytest.approx(np.vdot(point.gradient, step), rel=1e-8)
    original = np.linalg.lstsq(x, problem.design[:, :4] @ weights[:4], rcond=None)[0]
    assert point.loss == pytest.approx(slow_loss(x, codes, original, weights[4]), rel=1e-12)


def test_probabilities_near_one_keep_the_digits_of_what_is_left():
    # Two classes far apart along one channel: the odds are exp(-2 w x), and all losses and spreads are about that.
    x, codes = np.array([[-1e4], [1e4]]), np.array([0, 1])
    found = fit(x, codes)
    # By symmetry: log(1 + exp(-2 u)) + (u / 1e4)^2 / 2 is least at u = w 1e4.
    u = np.linspace(5, 15, 1_000_001)
    losses = np.log1p(np.exp(-2 * u)) + (u / 1e4) ** 2 / 2
    assert found.loss == pytest.approx(losses.min(), rel=1e-9)
    assert found.variances == pytest.approx(np.full((2, 2), np.exp(-2 * u[losses.argmin()])), rel=1e-4)


def test_the_search_ends_after_the_products_allowed(monkeypatch):
    """Alike points of different classes, separated by channels of which each is 1e-3 as large as the one before."""
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 4
    x = (rng.normal(size=(60, 30)) * 1e8 * 10.0 ** -np.arange(0, 15, 0.5)).astype(np.float32).astype(np.float64)
    x -= x.mean(axis=0)
    loose, tight = fit(x, codes, 5), fit(x, codes, 100)
    assert 0 < tight.loss < loose.loss < np.log(4)
    n_products = []
    step = _logistic._newton_step
    monkeypatch.setattr(_logistic, "_newton_step", lambda *a: (lambda got: n_products.append(got[1]) or got)(step(*a)))
    fit(x, codes, 5)
    assert 0 < sum(n_products) <= 5


@pytest.mark.parametrize("scale", [0.6, 8.0, 30.0])
def test_a_step_is_as_long_as_the_loss_falls(scale, world):
    """The length against a search by the loss alone, for steps that are too short, about right and too long."""
    x, codes = centered(world(200, 10, 4))
    problem = _logistic._problem(x, codes)
    start = evaluate(problem, np.random.default_rng(0).normal(size=(11, 4)))
    step = -scale * start.gradient
    gain = -float(np.vdot(start.gradient, step))

    def loss(length):
        return evaluate(problem, start.weights + length * step).loss

    best = minimize_scalar(loss, bounds=(0, _logistic.LONGEST), method="bounded", options={"xatol": 1e-9})
    found = _logistic._line_search(problem, start, step, gain)
    length = float(np.vdot(found.weights - start.weights, step) / np.vdot(step, step))
    # A convex function is above all its tangents.
    assert found.loss - best.fun <= _logistic.SLOPE_LEFT * gain * abs(length - best.x) + 1e-12
    assert start.loss - found.loss >= 0.9 * (start.loss - best.fun) > 0
    np.testing.assert_allclose(found.logits, problem.logits(found.weights), atol=1e-12)
    assert found.loss == pytest.approx(evaluate(problem, found.weights).loss, rel=1e-12)


def test_a_length_costs_no_product_with_the_features(world, monkeypatch):
    """Whatever the number of lengths tried, a step has one product for its logits and one evaluation."""
    x, codes = centered(world(500, 40, 12))
    calls = {"logits": 0, "steps": 0, "lengths": 0}

    def counted(name, function):
        def count(*given):
            calls[name] += 1
            return function(*given)

        return count

    monkeypatch.setattr(_logistic._Problem, "logits", counted("logits", _logistic._Problem.logits))
    monkeypatch.setattr(_logistic, "_line_search", counted("steps", _logistic._line_search))
    monkeypatch.setattr(_logistic, "_softmax", counted("lengths", _logistic._softmax))
    fit(5 * x, codes)
    assert calls["logits"] == calls["steps"] + 1
    assert calls["lengths"] > 2 * calls["steps"]


def test_steps_far_from_the_minimum_take_few_products(world, monkeypatch):
    x, codes = centered(world(500, 40, 12))
    n_products, product = [], _logistic._hessian_product
    monkeypatch.setattr(_logistic, "_hessian_product", lambda *given: n_products.append(1) or product(*given))
    fit(x, codes)
    rough = len(n_products)
    monkeypatch.setattr(_logistic, "MOST_LEFT", _logistic.GRADIENT_LEFT)
    fit(x, codes)
    assert 1.2 * rough < len(n_products) - rough


def test_constant_features_give_the_shares_of_the_classes():
    codes = np.repeat([0, 1, 2], [30, 10, 20])
    found = fit(np.zeros((60, 3)), codes)
    np.testing.assert_allclose(found.probabilities, np.tile([1 / 2, 1 / 6, 1 / 3], (60, 1)), rtol=1e-8)


def dense_hessian(problem, point):
    """The second derivatives, (K C, K C), term by term."""
    design, p = problem.design, point.probabilities
    n_classes = p.shape[1]
    of_logits = [np.diag(row) - np.outer(row, row) for row in p]
    total = sum(np.kron(np.outer(z, z), part) for z, part in zip(design, of_logits, strict=True)) / len(p)
    return total + np.diag(np.repeat(problem.prior[:, 0], n_classes))


def point_on_the_way(world, shape, steps=1.0):
    x, codes = centered(world(*shape))
    problem = _logistic._problem(x, codes)
    weights = steps * np.random.default_rng(1).normal(size=(problem.design.shape[1], shape[2]))
    return problem, evaluate(problem, weights)


def test_products_are_those_with_the_second_derivatives(world):
    problem, point = point_on_the_way(world, (80, 4, 3))
    direction = np.random.default_rng(2).normal(size=point.gradient.shape).astype(np.float32)
    found = _logistic._hessian_product(problem, point.probabilities.astype(np.float32), direction)
    expected = (dense_hessian(problem, point) @ direction.ravel()).reshape(direction.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_products_keep_the_digits_of_what_certainty_leaves(world):
    """All probabilities are within 1e-8 of 0 and 1, where float32 sees only ones."""
    problem, _ = point_on_the_way(world, (80, 4, 3))
    odds = np.where(np.eye(3, dtype=bool)[problem.codes], 1.0, 1e-9 * (1 + np.arange(3)))
    p = odds / odds.sum(axis=1, keepdims=True)
    direction = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    change = problem.design @ direction.astype(np.longdouble)
    exact = p.astype(np.longdouble)
    expected = exact * (change - (exact * change).sum(axis=1, keepdims=True))
    own = np.arange(80), problem.codes
    # What the true class gets is minus what all others get.
    expected[own] = 0
    expected[own] = -expected.sum(axis=1)
    expected = problem.design.T @ expected.astype(float) / 80
    found = _logistic._hessian_product(problem, p.astype(np.float32), direction) - problem.prior * direction
    tiny = np.abs(expected).max()
    assert tiny < 1e-7
    np.testing.assert_allclose(found[problem.prior[:, 0] == 0], expected[problem.prior[:, 0] == 0], atol=1e-3 * tiny)


@pytest.mark.parametrize("shape", [(60, 4, 3), (30, 50, 4)])
def test_all_terms_make_an_exact_inverse(shape, world):
    problem, point = point_on_the_way(world, shape, steps=0.3)
    share, chosen = _logistic._largest_terms(point, 2000)
    assert share == pytest.approx(1.0)
    assert len(chosen) == shape[0] * shape[2]
    solve = _logistic._few_terms(problem, point, share, chosen)
    gradient = point.gradient.astype(np.float32)
    solved = np.linalg.lstsq(dense_hessian(problem, point), point.gradient.ravel(), rcond=None)[0]
    # A shift of all intercepts changes nothing: what is left of the gradient counts.
    left = dense_hessian(problem, point) @ (solve(gradient).ravel() - solved)
    assert np.linalg.norm(left) < 1e-2 * np.linalg.norm(gradient)


def test_the_largest_terms_are_those_of_uncertain_observations(world):
    _, point = point_on_the_way(world, (300, 5, 4), steps=8.0)
    share, chosen = _logistic._largest_terms(point, 100)
    sizes = []
    for row in point.probabilities:
        sizes.append([p * np.sum((np.eye(4)[c] - row) ** 2) for c, p in enumerate(row)])
    sizes = np.ravel(sizes)
    assert share == pytest.approx(np.sort(sizes)[-100:].sum() / sizes.sum(), rel=1e-9)
    assert set(chosen) == set(np.argsort(sizes)[-100:])


def test_where_all_directions_are_alike_the_mean_of_the_weights_is_an_exact_inverse(world):
    """Probabilities that are the same for all observations, so that they are independent of all features."""
    problem, point = point_on_the_way(world, (80, 4, 3), steps=0.0)
    p = np.tile([0.5, 0.3, 0.2], (80, 1))
    point = replace(point, probabilities=p, variances=p * (1 - p))
    gradient = np.random.default_rng(3).normal(size=(5, 3))
    gradient -= gradient.mean(axis=1, keepdims=True)
    solved = _logistic._mean_weights(problem, point)(gradient.astype(np.float32))
    again = (dense_hessian(problem, point) @ solved.ravel()).reshape(gradient.shape)
    # What moves all classes alike is left to the prior, and in no gradient.
    np.testing.assert_allclose(again - again.mean(axis=1, keepdims=True), gradient, atol=1e-5)


def test_the_mean_of_the_weights_saves_products_where_classes_overlap(world, monkeypatch):
    """Against the diagonal of the same mean, for classes that come in pairs hard to tell apart."""
    x, codes = centered(world(2000, 40, 12))
    codes = np.where(np.random.default_rng(4).random(2000) < 0.45, codes ^ 1, codes)
    n_products, product = [], _logistic._hessian_product
    monkeypatch.setattr(_logistic, "_hessian_product", lambda *given: n_products.append(1) or product(*given))
    monkeypatch.setattr(_logistic, "ENOUGH", 2.0)
    fit(x, codes)
    with_classes = len(n_products)

    def diagonal(problem, point):
        inverse = (1 / (point.variances.mean(axis=0) + problem.prior)).astype(np.float32)
        return lambda gradient: gradient * inverse

    monkeypatch.setattr(_logistic, "_mean_weights", diagonal)
    fit(x, codes)
    assert 1.2 * with_classes < len(n_products) - with_classes


@pytest.mark.parametrize("enough", [0.0, 2.0])
def test_both_preconditioners_end_at_the_same_minimum(enough, world, monkeypatch):
    x, codes = centered(world(300, 40, 6))
    expected = fit(x, codes)
    monkeypatch.setattr(_logistic, "ENOUGH", enough)
    monkeypatch.setattr(_logistic, "ROUGH_TERMS", 150)
    monkeypatch.setattr(_logistic, "MAX_TERMS", 150)
    found = fit(x, codes)
    assert found.loss == pytest.approx(expected.loss, rel=1e-13)
    np.testing.assert_allclose(found.variances, expected.variances, rtol=1e-6, atol=1e-10)


def test_few_terms_save_products_where_classes_are_nearly_separate(world, monkeypatch):
    o = world(500, 30, 4)
    x = 3 * (o.features + 2 * np.eye(4, 30)[o.codes])
    x -= x.mean(axis=0)
    n_products, product = [], _logistic._hessian_product
    monkeypatch.setattr(_logistic, "_hessian_product", lambda *given: n_products.append(1) or product(*given))
    fit(x, o.codes)
    with_terms = len(n_products)
    monkeypatch.setattr(_logistic, "ENOUGH", 2.0)
    fit(x, o.codes)
    assert 2 * with_terms < len(n_products) - with_terms
