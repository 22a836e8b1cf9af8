"""Observations as they come in practice: correlated, unbalanced, off-center channels, in images of unequal size."""

from collections.abc import Callable

import numpy as np
import pytest

from seg_transfer.observations import Observations

World = Callable[..., Observations]


def make_world(
    n: int = 400, d: int = 10, n_classes: int = 5, n_images: int = 23, seed: int = 0, source_images: bool = True
) -> Observations:
    """Features are float64 copies of float16 values, so that every dtype can hold them."""
    rng = np.random.default_rng(seed)
    shares = 0.6 ** np.arange(n_classes)
    labels = rng.choice(n_classes, size=n, p=shares / shares.sum())
    labels[: 2 * n_classes] = np.tile(np.arange(n_classes), 2)
    image_index = np.sort(rng.choice(n_images, size=n, p=rng.dirichlet(np.full(n_images, 5.0))))
    class_means = rng.normal(size=(n_classes, d))
    image_means = 0.5 * rng.normal(size=(n_images, d))
    noise = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.sqrt(d))
    features = 3.0 + class_means[labels] + image_means[image_index] + noise
    logits = rng.normal(size=(n, 7)) + 1.5 * rng.normal(size=(n_classes, 7))[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Observations(
        halves(features),
        labels,
        probs,
        image_index,
        image_embeddings=halves(3.0 + image_means[np.unique(image_index)]),
        source_images=make_world(60, d, 4, 8, seed + 100, source_images=False) if source_images else None,
        class_pixels=1000 * (1 + np.arange(n_classes)),
    )


def halves(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float64)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world
