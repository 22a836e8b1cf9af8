"""Frames as plain data: values that JSON cannot hold become None."""

import json

import numpy as np
import pandas as pd
from all_columns import on_all_columns

from seg_transfer.evaluation import evaluate, plain_rows, scratch_report
from seg_transfer.store.published import load_published

evaluate = on_all_columns(evaluate)
PAIRS = pd.DataFrame(
    [
        ("a", "t", 0.50, 1.0, 3.0),
        ("b", "t", 0.40, 2.0, 3.0),
        ("scratch", "t", 0.45, np.nan, np.nan),
    ],
    columns=["source", "target", "miou", "sharp", "flat"],
)


def test_rows_are_json_and_match_the_frame():
    frame = evaluate(load_published(), n_bootstrap=20)
    rows = json.loads(json.dumps(plain_rows(frame), allow_nan=False))
    assert len(rows) == len(frame)
    wanted = {"scenario", "metric", "kind", "n_groups", "top1", "tau_w", "rel_at_1", "kendall", "pearson"}
    assert wanted | {"tau_w_low", "tau_w_high", "beaten_by"} <= set(rows[0])
    assert rows[0]["tau_w"] == frame["tau_w"].iloc[0]
    assert isinstance(rows[0]["n_groups"], int)
    logme = next(one for one in rows if (one["scenario"], one["metric"]) == ("fixed_source", "logme"))
    assert logme["beaten_by"] == ["minus_n_classes", "mean_rank_elsewhere", "random"]
    assert rows[0]["beaten_by"] is None


def test_values_that_are_not_finite_become_none():
    frame = evaluate(PAIRS)
    rows = {(row["scenario"], row["metric"]): row for row in json.loads(json.dumps(plain_rows(frame), allow_nan=False))}
    assert rows["fixed_source", "flat"]["tau_w"] is None
    assert rows["fixed_target", "sharp"]["tau_w"] is not None
    other = pd.DataFrame(
        {"x": [np.inf, 1.0], "y": pd.array([1, None], dtype="Int64"), "z": [(np.float64(2), np.nan), ()]}
    )
    assert plain_rows(other) == [{"x": None, "y": 1, "z": [2.0, None]}, {"x": 1.0, "y": None, "z": []}]
    assert plain_rows(scratch_report(PAIRS))[0]["beats_scratch"] is True
