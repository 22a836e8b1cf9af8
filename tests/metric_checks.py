"""Rules for every metric. Each check takes the name of a metric in METRICS and fails with an AssertionError.

PROPERTIES has one line per metric: the bounds of its score, and the changes that leave it the same. Changes that are
not declared must change the score, so that no declaration can be forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from seg_transfer import metrics
from seg_transfer.errors import ObservationsError
from seg_transfer.metrics import Score, score_all
from seg_transfer.observations import Observations

World = Callable[..., Observations]
Matrix = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Properties:
    """``lowest(C)`` and ``highest(C, D)`` bound the score; ``unchanged_by`` lists changes that leave it the same.

    ``separation``: a better separated target scores higher, and shuffled labels lower.
    """

    lowest: Callable[[int], float]
    highest: Callable[[int, int], float]
    unchanged_by: str
    separation: bool = True


def _any(*_: int) -> float:
    return np.inf


def _zero(*_: int) -> float:
    return 0.0


PROPERTIES = {
    "gbc": Properties(lambda c: -c * (c - 1), _zero, "shift rotation"),
    "logme": Properties(lambda c: -np.inf, _any, "rotation"),
    "h_score": Properties(_zero, lambda c, d: min(c - 1, d), "shift scale rotation duplication"),
    "regularized_h_score": Properties(_zero, lambda c, d: min(c - 1, d), "shift scale rotation"),
    "lda_score": Properties(_zero, _any, "shift scale rotation duplication"),
    "trans_rate": Properties(_zero, _any, "shift rotation duplication"),
    "sfda": Properties(_zero, lambda c, d: 1.0, "shift rotation duplication"),
    "pactran": Properties(lambda c: -np.inf, _zero, "shift rotation"),
    "parc": Properties(lambda c: -1.0, lambda c, d: 1.0, "shift scale"),
    "ccfv": Properties(lambda c: -np.inf, _any, "rotation"),
    "knn": Properties(_zero, lambda c, d: 1.0, "scale rotation"),
    "ridge_probe": Properties(_zero, lambda c, d: 1.0, "shift scale rotation duplication"),
    "probe_miou": Properties(_zero, lambda c, d: 1.0, "shift scale rotation duplication"),
    "linear_probe": Properties(_zero, lambda c, d: 1.0, "shift scale duplication"),
    "linear_probe_miou": Properties(_zero, lambda c, d: 1.0, "shift scale duplication"),
    "leep": Properties(lambda c: -np.inf, _zero, "shift scale rotation duplication"),
    "nce": Properties(lambda c: -np.log(c), _zero, "shift scale rotation duplication"),
    "nleep": Properties(lambda c: -np.inf, _zero, "shift scale rotation duplication"),
    "emd": Properties(_zero, lambda c, d: 1.0, "shift rotation duplication", separation=False),
    "ids": Properties(lambda c: -np.inf, _zero, "shift rotation duplication", separation=False),
    "otdd": Properties(lambda c: -np.inf, _zero, "shift rotation duplication", separation=False),
    "otce": Properties(lambda c: -np.log(c), _zero, "shift scale rotation duplication", separation=False),
}


def score_of(name: str, observations: Observations) -> float:
    return score_all(observations, [name], standard_errors=False)[name].score


def same(one: Score, other: Score, rtol: float = 1e-10) -> bool:
    if (one.standard_error is None) != (other.standard_error is None):
        return False
    errors = (one.standard_error or 0.0, other.standard_error or 0.0)
    return bool(
        np.isclose(one.score, other.score, rtol=rtol, atol=1e-14) and np.isclose(*errors, rtol=1e-7, atol=1e-14)
    )


def reordered(observations: Observations, rows: np.ndarray) -> Observations:
    """Select rows in any order; they must include every image."""
    return replace(
        observations,
        features=observations.features[rows],
        labels=observations.labels[rows],
        source_probs=observations.source_probs[rows],
        image_index=observations.image_index[rows],
    )


def moved(observations: Observations, move: Matrix) -> Observations:
    """Imitate another network: transform everything that comes from features, in target and source."""
    source = observations.source_images
    return replace(
        observations,
        features=move(observations.features),
        image_embeddings=move(observations.image_embeddings),
        source_images=None if source is None else moved(source, move),
    )


def check_range(name: str, world: World) -> None:
    for n, d, n_classes in [(400, 10, 5), (60, 150, 3), (37, 3, 2), (500, 40, 12)]:
        score = score_of(name, world(n, d, n_classes))
        properties = PROPERTIES[name]
        assert np.isfinite(score)
        assert properties.lowest(n_classes) - 1e-12 <= score <= properties.highest(n_classes, d) + 1e-12


def check_order(name: str, world: World) -> None:
    observations = world()
    shuffled = reordered(observations, np.random.default_rng(1).permutation(len(observations.labels)))
    assert same(score_all(observations, [name])[name], score_all(shuffled, [name])[name])


def check_names(name: str, world: World) -> None:
    """The names of labels and images do not matter."""
    observations = world()
    names = np.array([250, -3, 17, 4, 100], dtype=np.int16)
    renamed = replace(
        observations,
        labels=names[observations.labels],
        class_pixels=observations.class_pixels[np.argsort(names)],
        image_index=observations.image_index * 7 + 1000,
    )
    assert same(score_all(observations, [name])[name], score_all(renamed, [name])[name])


def check_storage(name: str, world: World) -> None:
    """Dtype and memory order of features do not matter, and they may be read-only."""
    observations = world()
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        for order in ("C", "F"):
            features = np.array(observations.features, dtype=kind, order=order)
            features.flags.writeable = False
            other = score_all(replace(observations, features=features), [name])[name]
            assert same(score_all(observations, [name])[name], other), (kind, order)


def check_inputs_kept(name: str, world: World) -> None:
    observations = world()
    fields = ("features", "labels", "source_probs", "image_index", "image_embeddings")
    before = {field: getattr(observations, field).copy() for field in fields}
    score_all(observations, [name])
    for field, values in before.items():
        np.testing.assert_array_equal(getattr(observations, field), values, err_msg=field)


def check_invariances(name: str, world: World) -> None:
    observations, rng = world(), np.random.default_rng(5)
    step, turn = rng.normal(size=10), np.linalg.qr(rng.normal(size=(10, 10)))[0]
    changed = {
        "shift": moved(observations, lambda x: x + step),
        "scale": moved(observations, lambda x: x / 300),
        "rotation": moved(observations, lambda x: x @ turn),
        "duplication": reordered(observations, np.repeat(np.arange(len(observations.labels)), 2)),
    }
    for change, other in changed.items():
        unchanged = np.isclose(score_of(name, observations), score_of(name, other), rtol=1e-9, atol=1e-14)
        assert unchanged == (change in PROPERTIES[name].unchanged_by.split()), change


def check_separation(name: str, world: World) -> None:
    if not PROPERTIES[name].separation:
        return
    observations, rng = world(), np.random.default_rng(8)
    pull = rng.normal(size=(5, 10))[observations.labels]
    better_probs = 0.3 * observations.source_probs + 0.7 * np.eye(7)[observations.labels]
    better = replace(observations, features=observations.features + 2 * pull, source_probs=better_probs)
    shuffled = replace(observations, labels=rng.permutation(observations.labels))
    assert score_of(name, shuffled) < score_of(name, observations) < score_of(name, better)


def check_jackknife(name: str, world: World) -> None:
    """Replicates and standard errors are those of leaving out each group by hand."""
    # These keep the PCA, the mixture or the predictions of the whole sample, and are tested separately.
    if name in ("gbc", "nleep", "knn", "ridge_probe", "probe_miou", "linear_probe", "linear_probe_miou"):
        return
    for n_images in (23, 10, 4):
        observations = world(n_images=n_images)
        rank = np.searchsorted(np.unique(observations.image_index), observations.image_index)
        n_groups = min(n_images, 10)
        replicates = [score_of(name, observations.subset(rank % 10 != group)) for group in range(n_groups)]
        expected = np.sqrt((n_groups - 1) / n_groups * np.sum((replicates - np.mean(replicates)) ** 2))
        score = score_all(observations, [name], "all")[name]
        np.testing.assert_allclose(score.replicates, replicates, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(score.standard_error, expected, rtol=1e-8)
        alone = score_all(observations, [name])[name].standard_error
        assert alone == (score.standard_error if metrics.METRICS[name].additive else None)


def check_no_groups(name: str, world: World) -> None:
    """There is no standard error without two groups of images."""
    observations = world()
    one_image = replace(
        observations, image_index=np.full_like(observations.labels, 9), image_embeddings=np.ones((1, 10))
    )
    if "image_index" not in metrics.METRICS[name].needs and "image_embeddings" not in metrics.METRICS[name].needs:
        unknown_images = replace(observations, image_index=None, image_embeddings=None)
        for kind in (True, "all"):
            assert score_all(unknown_images, [name], kind)[name].standard_error is None
            assert score_all(one_image, [name], kind)[name].standard_error is None
    score = score_all(observations, [name], standard_errors=False)[name]
    assert score == Score(score_of(name, observations), None, (), score.note)


def check_lost_classes(name: str, world: World) -> None:
    """A class that only one group has is absent without that group, and a single class gives no replicate."""
    observations = world(n_classes=3)
    groups, labels = observations.image_index % 10, observations.labels.copy()
    labels[(labels == 2) & (groups != 4)] = 1
    replicates = score_all(replace(observations, labels=labels), [name], "all")[name].replicates
    assert len(replicates) == 10
    assert np.isfinite(replicates).all()
    score = score_all(replace(observations, labels=np.where(groups == 4, labels, 0)), [name], "all")[name]
    kept = [replicate for replicate in score.replicates if replicate is not None]
    assert score.replicates[4] is None
    assert len(kept) == 9
    assert np.isclose(score.standard_error, np.sqrt(8 * np.var(kept)), rtol=1e-12)


MATRICES = ("features", "source_probs", "image_embeddings")
FAULTS: dict[str, Callable[[Observations], dict[str, np.ndarray]]] = {
    "nan": lambda o: {name: _with(getattr(o, name), np.nan) for name in MATRICES},
    "inf": lambda o: {name: _with(getattr(o, name), np.inf) for name in MATRICES},
    "one class": lambda o: {"labels": np.full_like(o.labels, 3)},
    "one row": lambda o: {"features": o.features[:1], "labels": o.labels[:1], "source_probs": o.source_probs[:1]},
    "no row": lambda o: {"labels": o.labels[:0], **{name: getattr(o, name)[:0] for name in MATRICES}},
    "lengths": lambda o: {"features": o.features[:-1], "source_probs": o.source_probs[:-1]},
    "one axis": lambda o: {name: getattr(o, name)[0] for name in MATRICES},
    "float labels": lambda o: {"labels": o.labels.astype(float)},
    "no pixels": lambda o: {"class_pixels": 0 * o.class_pixels},
    "complex": lambda o: {name: getattr(o, name).astype(complex) for name in MATRICES},
}


def _with(matrix: np.ndarray, value: float) -> np.ndarray:
    corrupted = matrix.copy()
    corrupted[-1, -1] = value
    return corrupted


def check_refusals(name: str, world: World) -> None:
    """The public function refuses unfit data in one line."""
    for fault, corrupt in FAULTS.items():
        arguments = arguments_of(name, world())
        corrupted = {field: values for field, values in corrupt(world()).items() if field in arguments}
        if corrupted:
            with pytest.raises(ObservationsError) as caught:
                getattr(metrics, name)(**arguments | corrupted)
            assert "\n" not in str(caught.value), fault


def arguments_of(name: str, observations: Observations) -> dict[str, np.ndarray]:
    """Return the arguments of a metric's public function, from observations."""
    needs, source = metrics.METRICS[name].needs, observations.source_images
    data = {field: getattr(observations, field) for field in ("features", "source_probs", "image_embeddings")}
    arguments = {field: values for field, values in data.items() if field in needs}
    if "image_embeddings" in needs:
        return arguments | {"source_image_embeddings": source.image_embeddings}
    arguments |= {"labels": observations.labels}
    if "image_index" in needs:
        arguments |= {"image_index": observations.image_index}
    if "class_pixels" in needs:
        arguments |= {"class_pixels": observations.class_pixels}
    if "source_images" in needs:
        arguments |= {"source_features": source.features, "source_labels": source.labels}
    return arguments


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
