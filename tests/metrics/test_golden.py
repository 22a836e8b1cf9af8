"""Numbers from elsewhere; tests/golden/metrics.json says from where."""

import json
from pathlib import Path

import numpy as np
import pytest

from seg_transfer.metrics import gbc, h_score, leep, log_negative_gbc, logme

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "metrics.json").read_text())

CLOSED_FORMS = {
    "gbc_diagonal": lambda x, y, p: gbc(x, y, ddof=0),
    "gbc_diagonal_ddof1": lambda x, y, p: gbc(x, y),
    "gbc_spherical_true_logdet": lambda x, y, p: gbc(x, y, ddof=0, covariance="spherical"),
    "log_neg_gbc_diagonal": lambda x, y, p: log_negative_gbc(x, y, ddof=0),
    "logme_tol1e3_11it": lambda x, y, p: logme(x, y),
    "logme_converged": lambda x, y, p: logme(x, y, converged=True),
    "hscore": lambda x, y, p: h_score(x, y),
    "leep": lambda x, y, p: leep(p, y),
}
PUBLIC_CODE = {
    "gbc_ddof0": CLOSED_FORMS["gbc_diagonal"],
    "logme": CLOSED_FORMS["logme_tol1e3_11it"],
    "h_score": CLOSED_FORMS["hscore"],
    "leep": CLOSED_FORMS["leep"],
}


def inputs(case):
    with np.load(FOLDER / f"{case}.npz") as arrays:
        return arrays.get("X"), arrays["y"], arrays["P"]


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [(case, name, value) for case, values in GOLDEN["closed_form"].items() for name, value in values.items()],
)
def test_closed_forms(case, name, value):
    assert CLOSED_FORMS[name](*inputs(case)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("number", GOLDEN["public_code"], ids=lambda number: f"{number['case']}-{number['metric']}")
def test_public_code(number):
    assert PUBLIC_CODE[number["metric"]](*inputs(number["case"])) == pytest.approx(number["value"], rel=1e-9)
