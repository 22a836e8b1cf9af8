"""CC-FV: whether classes look alike from image to image, in features that are widely spread."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.arrays.host import segments
from seg_transfer.errors import ObservationsError
from seg_transfer.metrics._base import Metric, Scores, Statistics, check_setting, overall_score
from seg_transfer.metrics._distances import squared_distances
from seg_transfer.metrics._transport import coupling, has_solver, least_cost
from seg_transfer.observations import FloatArray, IntArray, Observations, random_order
from seg_transfer.observations.passes import numpy_copy

# Keeps the logarithm finite where features do not vary at all.
SMALLEST = 1e-12
# Largest assignment problem, in points per side: the least common multiple of the two sides. Up to this size it takes
# at most 15 ms, and mostly far less than the linear program. The default settings stay below it.
LARGEST_ASSIGNMENT = 400
# Above this size POT, where it is installed, is up to a hundred times as fast: 0.07 ms. The values are the same.
SMALL_ASSIGNMENT = 40
# So many of them are worth loading it, which takes a second or more.
MANY = 500


def ccfv(
    features: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    image_index: npt.NDArray[np.integer[Any]],
    *,
    max_images: int = 20,
    pixels_per_class: int = 20,
    seed: int = 0,
) -> float:
    """Compute class consistency and feature variety, log(F_v / C_cons), of the features before the classifier.

    Yang et al., "Pick the Best Pre-trained Model: Towards Transferability Estimation for Medical Image Segmentation",
    MICCAI 2023. C_cons is the mean, over all classes and all pairs of images that contain the class, of the Wasserstein
    distance between the class's observations in the two images. F_v is the mean over images of 1 / E, where E is the
    hyperspherical energy: the mean of 1 / |u - v| over pairs of different observations of the image, each scaled to
    length 1.

    Where the paper leaves choices open, this function uses images evenly spaced through the sample; at most
    ``pixels_per_class`` observations per image and class, for both parts; the exact first Wasserstein distance with the
    Euclidean distance; and the mean energy instead of the sum, so that images with few observations count alike. The
    paper averages over several layers of the decoder; an observation has one layer. An image whose observations all
    have the same features has a variety of 0.

    Args:
        features: (N, D).
        labels: (N,) integers.
        image_index: (N,) integers, the image of each observation.
        max_images: At most this many images are used.
        pixels_per_class: At most this many observations of one image and class are used.
        seed: Seed of the choice of observations.

    Returns:
        A number in (-inf, inf); higher is better. The scale of the features matters.

    Raises:
        ObservationsError: The features hold NaN or infinite values, there are fewer than two classes or observations,
            or no class occurs in two images.
        ConfigError: A setting is outside its range.

    Example:
        In both images unit vectors are sqrt(2) apart, and every class is at distance 2 from itself in the other image.

        >>> features = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 3.0]])
        >>> score = ccfv(features, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
        >>> bool(np.isclose(score, np.log(np.sqrt(2) / 2)))
        True
    """
    statistics = Statistics.ungrouped(Observations(features, labels, image_index=image_index))
    return overall_score(_scores(statistics, max_images=max_images, pixels_per_class=pixels_per_class, seed=seed))


def _scores(statistics: Statistics, *, max_images: int, pixels_per_class: int, seed: int) -> Scores:
    check_setting(max_images >= 2, "max_images", max_images, "2 or more")
    check_setting(pixels_per_class >= 1, "pixels_per_class", pixels_per_class, "1 or more")
    x, codes, images = _subsample(statistics.observations, max_images, pixels_per_class, seed)
    variety = float(np.mean([_variety(x[images == image]) for image in np.unique(images)]))
    costs = [
        cost for code in np.unique(codes) for cost in _costs_between_images(x[codes == code], images[codes == code])
    ]
    use_pot = sum(map(_is_slow, costs)) >= MANY and has_solver()
    distances = [_wasserstein(cost, use_pot) for cost in costs]
    if not distances:
        raise ObservationsError(
            "no class occurs in two images, and ccfv compares classes between images: sample more images"
        )
    return [float(np.log(max(variety, SMALLEST)) - np.log(max(float(np.mean(distances)), SMALLEST)))]


def _subsample(
    observations: Observations, max_images: int, pixels_per_class: int, seed: int
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return features (n, D), class and image (n,) of the observations that are used."""
    assert observations.image_index is not None
    present, images = np.unique(observations.image_index, return_inverse=True)
    used = np.unique(np.linspace(0, len(present) - 1, max_images).round())
    _, rank = random_order(images * len(observations.classes) + observations.codes, seed)
    rows = np.flatnonzero(np.isin(images, used) & (rank < pixels_per_class))
    return numpy_copy(observations.features, rows), observations.codes[rows], images[rows].astype(np.int64)


def _costs_between_images(x: FloatArray, images: IntArray) -> Iterator[FloatArray]:
    """Yield the distances between the observations of a class in two images, (n, m), for every pair of images."""
    order = np.argsort(images, kind="stable")
    x = x[order]
    distances = np.sqrt(squared_distances(x, x))
    rows = [slice(start, end) for _, start, end in segments(images[order])]
    return (distances[first, second] for first, second in combinations(rows, 2))


def _variety(x: FloatArray) -> float:
    """Return 1 / E for the observations of one image."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    directions = np.divide(x, lengths, out=np.zeros_like(x), where=lengths > 0)
    distances = np.sqrt(squared_distances(directions, directions)[np.triu_indices(len(x), 1)])
    positive = distances[distances > SMALLEST]
    return float(1 / np.mean(1 / positive)) if len(positive) else 0.0


def _is_slow(cost: FloatArray) -> bool:
    n, m = cost.shape
    return n != m and int(np.lcm(n, m)) > SMALL_ASSIGNMENT


def _wasserstein(cost: FloatArray, use_pot: bool = False) -> float:
    """Compute the first Wasserstein distance between two sets of equally weighted points from their distances."""
    n, m = cost.shape
    size = int(np.lcm(n, m))
    if use_pot and _is_slow(cost):
        plan = coupling("ccfv", cost, np.full(n, float(m)), np.full(m, float(n)))
        return float(np.vdot(plan, cost) / (n * m))
    if size > LARGEST_ASSIGNMENT:
        return _transport_cost(cost)
    from scipy.optimize import linear_sum_assignment  # takes a tenth of a second, which other metrics need not wait for

    # With all points repeated to a common number, an assignment is a coupling.
    cost = cost.repeat(size // n, axis=0).repeat(size // m, axis=1)
    return float(cost[linear_sum_assignment(cost)].mean())


def _transport_cost(cost: FloatArray) -> float:
    """Compute the least mean cost of moving n equally weighted points onto m, from the costs (n, m) of all pairs."""
    n, m = cost.shape
    # A total mass of n m keeps all masses integers, which have no rounding errors.
    return least_cost("ccfv", cost, np.full(n, float(m)), np.full(m, float(n))) / float(n * m)


METRIC = Metric(
    name="ccfv",
    version=1,
    needs=frozenset({"features", "image_index"}),
    range="(-inf, inf)",
    cost="M^2 C D",
    reference="Yang et al., Pick the Best Pre-trained Model, MICCAI 2023",
    scores=_scores,
    settings={"max_images": 20, "pixels_per_class": 20, "seed": 0},
)
