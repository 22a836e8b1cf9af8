"""Numbers from elsewhere; tests/golden/metrics.json says from where."""

import numpy as np
import pytest
from golden_numbers import GOLDEN, inputs
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from seg_transfer.metrics import (
    emd,
    gbc,
    h_score,
    ids,
    leep,
    log_negative_gbc,
    logme,
    nce,
    regularized_h_score,
    sfda,
    trans_rate,
)
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._nce import negative_conditional_entropy
from seg_transfer.metrics._otce import _terms
from seg_transfer.metrics._trans_rate import coding_rates
from seg_transfer.observations import Observations


def regularized_h_score_ddof1(case):
    """The covariance between the classes divided by N - 1, the regularized one by N."""
    n = len(case["y"])
    return regularized_h_score(case["X"], case["y"]) * n / (n - 1)


def trans_rate_equal_classes(case):
    """Every class weighs the same, however large it is."""
    whole, of_classes = coding_rates(Statistics.ungrouped(Observations(case["X"], case["y"])), 1e-4)
    return whole - of_classes.mean()


def trans_rate_unit_size(case):
    """The centered features are first divided by the root of the sum of their squares."""
    x = case["X"].astype(np.float64)
    x -= x.mean(axis=0)
    return trans_rate(x / np.linalg.norm(x), case["y"])


def h_score_of_pca(case):
    """Of the 64 first principal components, without those that are rounding."""
    x = case["X"].astype(np.float64)
    x -= x.mean(axis=0)
    _, values, directions = np.linalg.svd(x, full_matrices=False)
    return h_score(x @ directions[:64][values[:64] > 1e-9 * values[0]].T, case["y"])


def nce_of_probabilities(case):
    """The source's probabilities in place of its highest class."""
    return negative_conditional_entropy((case["y"][:, None] == np.unique(case["y"])).T.astype(float) @ case["P"])


def nleep_of_scikit_learn(case):
    """LEEP of the mixture that scikit-learn finds from its own start.

    In float64: components of fewer observations than directions have singular covariances, which scikit-learn makes
    invertible by adding 1e-6 to variances of about 10 (condition 1e7). In float32 that addition is as small as the
    rounding, and it depends on the processor whether the Cholesky factorization succeeds.
    """
    z = PCA(0.8, svd_solver="full").fit_transform(case["X"].astype(np.float64))
    mixture = GaussianMixture(5 * len(np.unique(case["y"])), random_state=123).fit(z)
    return leep(mixture.predict_proba(z), case["y"])


def leep_of_posterior(case):
    return leep(case["posterior"], inputs("balanced_f32")["y"])


def minus_emd_and_its_score(case):
    score = emd(case["X"], case["y"], case["Xs"], case["ys"])
    return [-100 * np.log(score), score]


def otce_terms(case):
    task, domain = _terms(Observations(case["X"], case["y"]), Observations(case["Xs"], case["ys"]))
    return [domain, -task]


METRICS = {
    "gbc_diagonal": lambda case: gbc(case["X"], case["y"], ddof=0),
    "gbc_diagonal_ddof1": lambda case: gbc(case["X"], case["y"]),
    "gbc_spherical_true_logdet": lambda case: gbc(case["X"], case["y"], ddof=0, covariance="spherical"),
    "log_neg_gbc_diagonal": lambda case: log_negative_gbc(case["X"], case["y"], ddof=0),
    "logme_tol1e3_11it": lambda case: logme(case["X"], case["y"]),
    "logme_converged": lambda case: logme(case["X"], case["y"], converged=True),
    "hscore": lambda case: h_score(case["X"], case["y"]),
    "leep": lambda case: leep(case["P"], case["y"]),
    "nce": lambda case: nce(case["P"], case["y"]),
    "gbc_ddof0": lambda case: gbc(case["X"], case["y"], ddof=0),
    "gbc_ddof0_all_channels": lambda case: gbc(case["X"], case["y"], ddof=0, n_components=None),
    "logme": lambda case: logme(case["X"], case["y"]),
    "h_score": lambda case: h_score(case["X"], case["y"]),
    "h_score_of_pca": h_score_of_pca,
    "regularized_h_score_ddof1": regularized_h_score_ddof1,
    "trans_rate_equal_classes": trans_rate_equal_classes,
    "trans_rate_unit_size": trans_rate_unit_size,
    "sfda": lambda case: sfda(case["X"], case["y"]),
    "nce_of_probabilities": nce_of_probabilities,
    "leep_of_posterior": leep_of_posterior,
    "nleep_of_scikit_learn": nleep_of_scikit_learn,
    "ids": lambda case: ids(case["X"], case["Xs"]),
    "emd": minus_emd_and_its_score,
    "otce": otce_terms,
}


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [(case, name, value) for case, values in GOLDEN["closed_form"].items() for name, value in values.items()],
)
def test_closed_forms(case, name, value):
    assert METRICS[name](inputs(case)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("number", GOLDEN["public_code"], ids=lambda number: f"{number['case']}-{number['metric']}")
def test_public_code(number):
    found = METRICS[number["metric"]](inputs(number["case"]))
    assert found == pytest.approx(number["value"], rel=number["tolerance"])
