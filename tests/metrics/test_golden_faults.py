"""Public code that computes something else than the paper says: with its fault, the code here gives its number."""

import numpy as np
import pytest
from golden_numbers import GOLDEN, inputs

from seg_transfer.metrics import _gbc, _logme, gbc, h_score, logme
from seg_transfer.metrics._base import Statistics
from seg_transfer.observations import Observations


def statistics(case):
    return Statistics.ungrouped(Observations(case["X"], case["y"]))


def gbc_spherical_log_once(case, params):
    settings = _gbc._Settings(params["pca"], "spherical", 1e-4, params["ddof"])
    projected = _gbc._project(statistics(case), settings)
    counts, squares = projected.counts[0, :, None].astype(float), projected.squares[0]
    variances = _gbc._covariances(counts, np.zeros_like(squares), squares, settings)[:, 0]
    means = projected.centers + projected.sums[0] / counts
    sums = variances[:, None] + variances
    shifts = ((means[:, None] - means) ** 2).sum(axis=2) / sums / 4
    distances = shifts + np.log(sums / 2) / 2 - np.log(np.outer(variances, variances)) / 4
    return len(means) - np.exp(-distances).sum()


def h_score_elementwise(case, params):
    x, y = case["X"].astype(float), np.unique(case["y"], return_inverse=True)[1]
    means = np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])[y]
    return np.trace(np.linalg.pinv(np.cov(x.T), rcond=params["rcond"]) * np.cov(means.T))


def logme_looser(case, params):
    problem = _logme._problem(statistics(case).total)
    return _logme._evidence(problem, params.get("max_iter", 11), params["tol"]).mean()


def logme_without_constant(case, params):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_logme, "PRIOR_RATE", params["eps"])
        return logme_looser(case, params)


def logme_carried(case, params):
    problem, ratio, evidence = _logme._problem(statistics(case).total), np.ones(1), []
    for c in range(len(problem.residuals)):
        for _ in range(11):
            before = ratio
            ratio, last = _logme._step(problem, np.array([c]), before)
            if abs(ratio - before) <= params["tol"] * before:
                break
        evidence.append(last)
    return np.mean(evidence)


def logme_without_log_2_pi(case, params):
    problem = _logme._problem(statistics(case).total)
    return _logme._evidence(problem, params["num_iters"], 0.0).mean() + np.log(2 * np.pi) / 2


FAULTY = {
    "gbc_spherical_log_once": gbc_spherical_log_once,
    "h_score_elementwise": h_score_elementwise,
    "logme_1e-2": logme_looser,
    "logme_1e-2_without_constant": logme_without_constant,
    "logme_carried": logme_carried,
    "logme_without_log_2_pi": logme_without_log_2_pi,
}
NUMBERS = pytest.mark.parametrize(
    "number", GOLDEN["faulty_code"], ids=lambda number: f"{number['case']}-{number['metric']}"
)


@NUMBERS
def test_the_fault_gives_the_number(number):
    found = FAULTY[number["metric"]](inputs(number["case"]), number["params"])
    assert found == pytest.approx(number["value"], rel=number["tolerance"])


@pytest.mark.parametrize("case", sorted({number["case"] for number in GOLDEN["faulty_code"]}))
def test_the_faults_make_a_difference(case):
    """More than a tolerance could hide, in the cases that were made to show them."""
    arrays = inputs(case)
    own = {
        "gbc": gbc(arrays["X"], arrays["y"], covariance="spherical"),
        "h_score": h_score(arrays["X"], arrays["y"]),
        "logme": logme(arrays["X"], arrays["y"]),
    }
    params = {"pca": 64, "ddof": 1, "rcond": 1e-5, "num_iters": 20}
    assert gbc_spherical_log_once(arrays, params) != pytest.approx(own["gbc"], rel=1e-3)
    assert h_score_elementwise(arrays, params) > 20 * own["h_score"]
    assert logme_without_log_2_pi(arrays, params) > own["logme"] + 0.9


@pytest.mark.parametrize("case", ["source_pair", "leep_zero_column"])
def test_the_stopping_rules_of_logme_make_a_difference(case):
    arrays = inputs(case)
    own = logme(arrays["X"], arrays["y"])
    assert logme_looser(arrays, {"tol": 1e-2}) != pytest.approx(own, rel=1e-7)
    assert logme_carried(arrays, {"tol": 1e-3}) != pytest.approx(own, rel=1e-7)
    assert logme(arrays["X"], arrays["y"], converged=True) != pytest.approx(own, rel=1e-6)
