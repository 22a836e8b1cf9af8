"""Rows that resemble features: correlated channels, classes of unequal size, and means far from zero on request."""

import numpy as np


def data(n=300, d=8, n_classes=4, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, size=n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
    features = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=(n_classes, d))[labels]
    return features + offset * features.std(axis=0), labels
