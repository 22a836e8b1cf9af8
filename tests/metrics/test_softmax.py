"""Softmax regression against scikit-learn's, and against differences of a slow loss."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from seg_transfer.metrics import _softmax
from seg_transfer.metrics._rows import Rows
from seg_transfer.metrics._softmax import Problem, fit, fits


def rows_of(observations, n_groups=4, features=None):
    features = observations.features if features is None else features
    return Rows.of(features, observations.codes, observations.image_index % n_groups, n_groups)


def slow_loss(x, codes, weights, intercepts, penalty):
    """Weighted mean cross-entropy of standardized features, with every class present counting the same."""
    z = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    logits = z @ weights + intercepts
    logits -= logits.max(axis=1, keepdims=True)
    own = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(z)), codes]
    return np.mean([own[codes == code].mean() for code in np.unique(codes)]) + penalty / 2 * (weights**2).sum()


def scikit_learn(x, codes, penalty):
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    two = len(np.unique(codes)) == 2
    weight = (1 + two) / (penalty * len(z))
    found = LogisticRegression(C=weight, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(z, codes)
    if two:
        return found.coef_.T * [-0.5, 0.5], found.intercept_ * [-0.5, 0.5]
    return found.coef_.T, found.intercept_


def kept_rows(observations, left_out, n_groups=4):
    return ~np.isin(observations.image_index % n_groups, list(left_out))


@pytest.mark.parametrize("penalty", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("shape", [(600, 10, 5), (400, 60, 2), (300, 20, 12)])
def test_finds_the_minimum_that_scikit_learn_finds(shape, penalty, world):
    o = world(*shape)
    problem = Problem.of(rows_of(o), {1, 2})
    unknowns = fit(problem, penalty, problem.start(), 1e-10)
    kept = kept_rows(o, {1, 2})
    x, codes = o.features[kept], o.codes[kept]
    best = slow_loss(x, codes, *scikit_learn(x, codes, penalty), penalty)
    assert problem.evaluate(unknowns, penalty).loss == pytest.approx(best, rel=1e-5)
    # The default tolerance stops within a few times itself.
    rough = fit(problem, penalty, problem.start(), 3e-4)
    assert problem.evaluate(rough, penalty).loss == pytest.approx(best, abs=2e-3)


def test_another_penalty_costs_no_product(world, monkeypatch):
    """A search starts with the loss and the gradient of its own penalty where the last one ended."""
    o, starts, evaluate, calls = world(300, 6, 4), [], Problem.evaluate, []
    problem, unknowns = Problem.of(rows_of(o), {1}), np.random.default_rng(1).normal(size=(7, 4))
    monkeypatch.setattr(_softmax, "_minimum", lambda _, penalty, point, *a: starts.append((penalty, point)) or point)
    monkeypatch.setattr(Problem, "evaluate", lambda *a: calls.append(1) or evaluate(*a))
    fits(problem, (1.0, 0.3, 0.02), unknowns, 1e-4)
    assert len(calls) == 1
    assert [penalty for penalty, _ in starts] == [1.0, 0.3, 0.02]
    for penalty, point in starts:
        expected = evaluate(problem, unknowns, penalty)
        assert point.loss == pytest.approx(expected.loss, rel=1e-12)
        np.testing.assert_allclose(point.gradient, expected.gradient, rtol=1e-12, atol=1e-12)


def test_the_loss_is_the_definition_and_the_gradient_its_slope(world):
    o = world(300, 6, 4)
    problem, rng = Problem.of(rows_of(o), {3}), np.random.default_rng(0)
    unknowns, step = rng.normal(size=(2, 7, 4))
    kept = kept_rows(o, {3})
    x, codes = o.features[kept], o.codes[kept]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    # The search counts from the mean of the class means.
    center = np.mean([z[codes == code].mean(axis=0) for code in range(4)], axis=0)

    def loss(values):
        return slow_loss(x, codes, values[:6], values[6] - center @ values[:6], 0.3)

    point = problem.evaluate(unknowns, 0.3)
    assert point.loss == pytest.approx(loss(unknowns), rel=1e-5)
    slope = (loss(unknowns + 1e-5 * step) - loss(unknowns - 1e-5 * step)) / 2e-5
    assert np.vdot(point.gradient, step) == pytest.approx(slope, rel=1e-4)


def test_the_rows_of_a_group_left_out_are_never_read(world):
    o = world()
    rows = rows_of(o)
    _ = rows.group_sums
    clean = Problem.of(rows, {2})
    expected = fit(clean, 0.1, clean.start(), 1e-6)
    rows.values[rows.bounds[2] : rows.bounds[3]] = np.nan
    for part in rows.group_sums[1:]:
        part[2] = np.nan
    problem = Problem.of(rows, {2})
    np.testing.assert_array_equal(fit(problem, 0.1, problem.start(), 1e-6), expected)


def test_a_fit_starts_where_another_ended(world):
    o = world()
    rows = rows_of(o)
    pair, single = Problem.of(rows, {0, 1}), Problem.of(rows, {0})
    before = pair.fit_of(fit(pair, 0.1, pair.start(), 1e-6))
    again = single.fit_of(single.start(before))
    np.testing.assert_allclose(again.weights, before.weights, rtol=1e-12)
    np.testing.assert_allclose(again.intercepts, before.intercepts, rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(offset=st.floats(-1e6, 1e6), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 5))
def test_shift_and_scale_of_channels_change_nothing(world, offset, scale, seed):
    o = world(200, 5, 3, seed=seed)
    scales = np.geomspace(1, scale, 5)
    found = []
    for features in (o.features, o.features * scales + offset * scales):
        problem = Problem.of(rows_of(o, features=features), {0})
        found.append(problem.evaluate(fit(problem, 0.1, problem.start(), 1e-7), 0.1).loss)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_constant_channels_get_no_weight(world):
    """One never varies, and one only in the group that is left out."""
    o = world(300, 5, 3)
    left = o.image_index % 4 == 1
    constant = np.column_stack([np.full(300, 1e6), np.where(left, np.random.default_rng(0).normal(size=300), 0.1)])
    problem = Problem.of(rows_of(o, features=np.hstack([o.features, constant])), {1})
    plain = Problem.of(rows_of(o), {1})
    wide, narrow = (p.fit_of(fit(p, 0.1, p.start(), 1e-8)) for p in (problem, plain))
    np.testing.assert_array_equal(wide.weights[5:], 0.0)
    np.testing.assert_allclose(wide.weights[:5], narrow.weights, atol=1e-4)


def test_classes_that_only_the_group_left_out_has_are_not_predicted(world):
    o = world(300, 5, 3)
    groups = o.image_index % 4
    codes = np.where((o.codes == 2) & (groups != 1), 0, o.codes)
    rows = Rows.of(o.features, codes, groups, 4)
    problem = Problem.of(rows, {1})
    found = problem.fit_of(fit(problem, 0.1, problem.start(), 1e-6))
    assert found.intercepts[2] == -np.inf
    assert set(rows.predictions(1, found)) == {0, 1}
    # One class is left, and none.
    single = Rows.of(o.features, np.where(groups == 1, o.codes, 1), groups, 4)
    for left_out, only in (({1}, 1), ({0, 1, 2, 3}, 0)):
        problem = Problem.of(single, left_out)
        found = problem.fit_of(fit(problem, 0.1, problem.start(), 1e-6))
        np.testing.assert_array_equal(single.predictions(0, found), only)


def test_correlated_channels_take_few_steps(world, monkeypatch):
    """All channels are nearly one; the preconditioner makes up for it."""
    o = world(2000, 40, 5)
    features = o.features.mean(axis=1, keepdims=True) + 0.02 * o.features
    problem = Problem.of(rows_of(o, features=features), {0})
    evaluate, n_evaluations = Problem.evaluate, []
    monkeypatch.setattr(Problem, "evaluate", lambda *a: n_evaluations.append(1) or evaluate(*a))
    fit(problem, 0.01, problem.start(), 1e-4)
    preconditioned = len(n_evaluations)
    monkeypatch.setattr(_softmax, "_preconditioner", lambda *_: lambda gradient: 5 * gradient)
    fit(problem, 0.01, problem.start(), 1e-4)
    assert preconditioned < 15
    assert len(n_evaluations) - preconditioned > 2 * preconditioned


@pytest.mark.parametrize("halved", [False, True])
def test_a_halved_step_costs_few_products_with_the_features(halved, world, monkeypatch):
    """A step 100 times too long; where it ends, all is as if computed there."""
    problem = Problem.of(rows_of(world(600, 10, 5)), {1})
    start = problem.evaluate(np.random.default_rng(0).normal(size=(11, 5)), 0.3)
    start = replace(start, halved=halved)
    direction = (-100 * start.gradient).astype(np.float32)
    calls: list[str] = []
    for name in ("logits", "evaluate", "loss"):
        function = getattr(Problem, name)
        monkeypatch.setattr(Problem, name, lambda *a, name=name, function=function: calls.append(name) or function(*a))
    found = _softmax._line_search(problem, 0.3, start, direction, -float(np.vdot(start.gradient, direction)))
    # Logits at its end, a gradient where it stops, and one at its end if nothing told that it would be halved.
    assert (calls.count("logits"), calls.count("evaluate")) == (1, 1 if halved else 2)
    assert calls.count("loss") > 3
    assert found.halved
    assert found.loss < start.loss
    there = problem.evaluate(found.unknowns, 0.3)
    assert found.loss == pytest.approx(there.loss, rel=1e-5)
    np.testing.assert_allclose(found.gradient, there.gradient, atol=1e-5 * np.abs(start.gradient).max())
    for block, exact in zip(found.logits, there.logits, strict=True):
        np.testing.assert_allclose(block, exact, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("halved", [False, True])
def test_a_step_that_is_not_halved_is_taken_whole(halved, world):
    problem = Problem.of(rows_of(world(600, 10, 5)), {1})
    start = replace(problem.evaluate(problem.start(), 0.3), halved=halved)
    direction = (-0.1 * start.gradient).astype(np.float32)
    found = _softmax._line_search(problem, 0.3, start, direction, -float(np.vdot(start.gradient, direction)))
    there = problem.evaluate(start.unknowns + direction, 0.3)
    assert not found.halved
    assert found.loss == there.loss
    np.testing.assert_array_equal(found.gradient, there.gradient)
