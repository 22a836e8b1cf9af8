"""IDS: how close the target's images are to the source's own images."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from seg_transfer.errors import ObservationsError
from seg_transfer.metrics._base import Metric, Scores, Statistics
from seg_transfer.observations import FloatArray, check_matrix


def ids(image_embeddings: npt.NDArray[Any], source_image_embeddings: npt.NDArray[Any]) -> float:
    """Compute image domain similarity: minus the mean distance from target images to the nearest source images.

    Mensink et al., "Factors of Influence for Transfer Learning across Diverse Appearance Domains and Task Types", TPAMI
    2021. The distance is Euclidean. The paper embeds all images with one model that was trained on several sources.
    Here, an image's embedding is the mean of the given source's features over the whole image, so that scores of
    different sources are in different units. The more images the source has, the closer the nearest one is.

    Args:
        image_embeddings: (M, D), one row per image of the target.
        source_image_embeddings: (M_s, D), one row per image of the source, from the same model.

    Returns:
        A number in (-inf, 0], in the units of the features; higher is better.

    Raises:
        ObservationsError: A value is NaN or infinite, a side has no image, or the sides differ in width.

    Example:
        >>> ids(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [3.0, 0.0]]))
        -2.5
    """
    return -float(nearest_distances(image_embeddings, source_image_embeddings).mean())


def nearest_distances(image_embeddings: npt.NDArray[Any], source_image_embeddings: npt.NDArray[Any]) -> FloatArray:
    """Return the distance (M,) from every target image to the nearest source image."""
    sides = {"image_embeddings": image_embeddings, "source_image_embeddings": source_image_embeddings}
    for name, values in sides.items():
        check_matrix(name, np.asarray(values), max(len(values), 1), "images")
    target, source = (np.asarray(values).astype(np.float64) for values in sides.values())
    if target.shape[1] != source.shape[1]:
        raise ObservationsError(
            f"image_embeddings have {target.shape[1]} channels and source_image_embeddings {source.shape[1]}; "
            "both must come from the same source: extract them again"
        )
    distances: FloatArray = cdist(target, source).min(axis=1)
    return distances


def _scores(statistics: Statistics) -> Scores:
    observations = statistics.observations
    source = observations.source_images
    assert observations.image_index is not None
    assert observations.image_embeddings is not None
    assert source is not None
    if source.image_embeddings is None:
        raise ObservationsError(
            "source_images have no image_embeddings; ids needs embeddings of both sides: extract them too"
        )
    distances = nearest_distances(observations.image_embeddings, source.image_embeddings)
    _, first = np.unique(observations.image_index, return_index=True)
    groups = statistics.groups[first]
    replicates = [
        -float(distances[groups != group].mean()) if statistics.n_classes_without(group) > 1 else None
        for group in statistics.left_out
    ]
    return [-float(distances.mean()), *replicates]


METRIC = Metric(
    name="ids",
    version=1,
    needs=frozenset({"image_embeddings", "source_images"}),
    range="(-inf, 0]",
    cost="M M_s D",
    reference="Mensink et al., Factors of Influence for Transfer Learning, TPAMI 2021",
    scores=_scores,
    settings={},
    additive=True,
)
