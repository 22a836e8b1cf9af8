"""Small tables of pairs with chosen or random performance and scores, and how to look up their rows."""

import itertools

import numpy as np
import pandas as pd


def pairs_of(miou, **scores):
    """Make pairs from a square table miou[source][target]; the diagonal is left out."""
    names = [f"d{i}" for i in range(len(miou))]
    rows = [
        {"source": s, "target": t, "miou": miou[i][j], **{name: score[i][j] for name, score in scores.items()}}
        for (i, s), (j, t) in itertools.product(enumerate(names), repeat=2)
        if i != j
    ]
    return pd.DataFrame(rows)


def random_pairs(n=6, seed=0):
    """Make pairs with good sources, hard targets, and scores of very different scale."""
    rng = np.random.default_rng(seed)
    miou = 0.3 + 0.1 * rng.random((n, 1)) + 0.2 * rng.random((1, n)) ** 2 + 0.05 * rng.random((n, n))
    near, far = -900 + 300 * miou + 5 * rng.standard_normal((n, n)), 1e-6 * rng.standard_normal((n, n))
    pairs = pairs_of(miou, near=near, far=far)
    return pairs.assign(n_target_classes=pairs["target"].map({f"d{i}": 2 + i * i for i in range(n)}))


def row(frame, scenario, metric):
    return frame[(frame["scenario"] == scenario) & (frame["metric"] == metric)].iloc[0]


def group_row(frame, scenario, group, metric):
    return row(frame[frame["group"] == group], scenario, metric)
