"""Choosing the pixels of a label map: inverse-frequency sampling without replacement, keyed by image.

The random numbers come from a counter-based generator keyed by (seed, dataset, image id): a sample does not
depend on the order of the images, the number of workers, the platform or the version of NumPy.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from seg_transfer.errors import ConfigError, ObservationsError
from seg_transfer.observations import PixelSample

LabelMap = npt.NDArray[np.integer[Any]]
IntArray = npt.NDArray[np.int64]


def sample_pixels(
    labels: LabelMap,
    n_pixels: int = 1000,
    *,
    class_counts: npt.NDArray[np.integer[Any]] | None = None,
    dataset: str = "",
    image_id: str = "",
    seed: int = 0,
    ignore_value: int = 255,
) -> IntArray:
    """Sample pixels of one label map such that rare classes are as likely as frequent ones.

    Sampling is successive and without replacement: each draw picks one of the remaining pixels, with probability
    proportional to ``1 / class_counts[label]``. An exponential race has exactly this distribution (Efraimidis and
    Spirakis, "Weighted random sampling with a reservoir", 2006): pixel i arrives at time E_i / w_i with E_i
    exponential, and the first ``n_pixels`` arrivals are the sample.

    Args:
        labels: (H, W) integers.
        n_pixels: Number of pixels. If no more than this many are labeled, all of them are sampled.
        class_counts: (n_classes,) pixels per label over the whole low-shot split; None uses the counts of this image.
        dataset: Name of the dataset, part of the key of the random numbers.
        image_id: Name of the image, part of the key and of error messages.
        seed: Part of the key.
        ignore_value: Pixels with this label are never sampled.

    Returns:
        Flat row-major indices of the sampled pixels, ascending.

    Raises:
        ObservationsError: The map is not (H, W) integers, or holds a label that ``class_counts`` does not count.
        ConfigError: ``n_pixels`` is below 1.

    Example:
        >>> sample_pixels(np.array([[0, 255], [1, 1]]), n_pixels=3)
        array([0, 2, 3])
    """
    if n_pixels < 1:
        raise ConfigError(f"n_pixels is {n_pixels}; at least one pixel per image must be sampled")
    _check_label_map(labels, image_id)
    pixels = np.flatnonzero(labels != ignore_value)
    values = labels.reshape(-1)[pixels]
    inverse_weights = _inverse_weights(values, class_counts, image_id)
    if len(pixels) <= n_pixels:
        return pixels.astype(np.int64)
    arrivals = _exponentials(len(pixels), seed, dataset, image_id)
    arrivals *= inverse_weights
    return np.sort(pixels[np.argpartition(arrivals, n_pixels - 1)[:n_pixels]]).astype(np.int64)


def draw_pixel_sample(
    label_maps: Iterable[tuple[str, LabelMap]],
    n_pixels: int = 1000,
    *,
    class_counts: npt.NDArray[np.integer[Any]] | None = None,
    dataset: str = "",
    seed: int = 0,
    ignore_value: int = 255,
) -> PixelSample:
    """Draw the pixel sample of a target: `sample_pixels` on each of its images in turn.

    Args:
        label_maps: Pairs of image id and label map (H, W).
        n_pixels: Number of pixels per image, as in `sample_pixels`.
        class_counts: As in `sample_pixels`.
        dataset: As in `sample_pixels`.
        seed: As in `sample_pixels`.
        ignore_value: As in `sample_pixels`.

    Returns:
        The sampled pixels of all images, in the order of the images.

    Raises:
        ObservationsError: There is no label map, or as in `sample_pixels`.
        ConfigError: As in `sample_pixels`.

    Example:
        >>> sample = draw_pixel_sample([("a", np.array([[0, 255], [1, 1]])), ("b", np.array([[2, 255]]))])
        >>> sample.image_index.tolist(), sample.rows.tolist(), sample.columns.tolist(), sample.labels.tolist()
        ([0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 1, 2])
    """
    ids, sizes, positions, values = [], [], [], []
    for number, (image_id, labels) in enumerate(label_maps):
        pixels = sample_pixels(
            labels,
            n_pixels,
            class_counts=class_counts,
            dataset=dataset,
            image_id=image_id,
            seed=seed,
            ignore_value=ignore_value,
        )
        ids.append(image_id)
        sizes.append(labels.shape)
        positions.append(np.stack((np.full(len(pixels), number), *np.divmod(pixels, labels.shape[1]))).astype(np.int32))
        values.append(labels.reshape(-1)[pixels])
    if not ids:
        raise ObservationsError(f"dataset {dataset!r} has no label map to sample from; list at least one image")
    index, rows, columns = np.concatenate(positions, axis=1)
    return PixelSample(tuple(ids), np.array(sizes, dtype=np.int32), index, rows, columns, np.concatenate(values))


def class_counts(label_maps: Iterable[LabelMap], n_classes: int, ignore_value: int = 255) -> IntArray:
    """Count the labeled pixels of each class over all maps.

    Args:
        label_maps: (H, W) integers each.
        n_classes: Labels are 0 .. n_classes - 1, or ``ignore_value``.
        ignore_value: Pixels with this label are not counted.

    Returns:
        (n_classes,) number of pixels of each class.

    Raises:
        ObservationsError: A map holds any other label.

    Example:
        >>> class_counts([np.array([[0, 2], [2, 255]])], n_classes=3)
        array([1, 0, 2])
    """
    counts = np.zeros(n_classes, dtype=np.int64)
    for number, labels in enumerate(label_maps):
        _check_label_map(labels, f"number {number}")
        values = labels[labels != ignore_value]
        if len(values) and not 0 <= values.min() <= values.max() < n_classes:
            wrong = values[(values < 0) | (values >= n_classes)][0]
            raise ObservationsError(
                f"label map number {number} holds label {wrong}; with {n_classes} classes labels are "
                f"0 .. {n_classes - 1} or {ignore_value}: fix the label map of its manifest"
            )
        counts += np.bincount(values, minlength=n_classes)
    return counts


def nearest_resize_labels(labels: LabelMap, grid_shape: tuple[int, int]) -> LabelMap:
    """Resize a label map (H, W) to a grid (h, w): row i takes row floor((i + 0.5) * H / h), and likewise columns.

    Args:
        labels: (H, W) integers.
        grid_shape: (h, w).

    Returns:
        (h, w) labels, in the dtype of the map.

    Example:
        >>> nearest_resize_labels(np.array([[0, 1, 2, 3]]), (1, 2))
        array([[1, 3]])
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, grid_shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def keyed_words(key: Sequence[int | str], n: int) -> npt.NDArray[np.uint64]:
    """Return random 64-bit words that depend on the key alone.

    They are raw words of the Philox generator, the same in all versions of NumPy and on all platforms.

    Args:
        key: Numbers and strings.
        n: Number of words.

    Returns:
        (n,) uint64.

    Example:
        >>> words = keyed_words([0, "camvid", "image_1"], 3)
        >>> words.dtype, bool((words == keyed_words([0, "camvid", "image_1"], 3)).all())
        (dtype('uint64'), True)
    """
    digest = hashlib.sha256(json.dumps(list(key)).encode()).digest()
    words: npt.NDArray[np.uint64] = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8")).random_raw(n)
    return words


def _inverse_weights(
    values: LabelMap, class_counts: npt.NDArray[np.integer[Any]] | None, image_id: str
) -> npt.NDArray[np.float64]:
    """Return the pixel count of every pixel's label; raises ObservationsError for a label that is not counted."""
    if not len(values):
        return np.empty(0)
    if values.min() < 0:
        raise ObservationsError(f"label map {image_id} holds label {values.min()}; labels are class numbers from 0")
    image_counts = np.bincount(values)
    counts = image_counts if class_counts is None else class_counts
    present = np.flatnonzero(image_counts)
    counted = present < len(counts)
    counted[counted] = counts[present[counted]] > 0
    if not counted.all():
        raise ObservationsError(
            f"label map {image_id} holds label {present[~counted][0]}, which class_counts ({len(counts)} classes) does "
            "not count: take the counts over all images that are sampled"
        )
    return counts.astype(np.float64).take(values)


def _exponentials(n: int, seed: int, dataset: str, image_id: str) -> npt.NDArray[np.float64]:
    """Draw exponential variates -log(1 - u) from 53-bit uniforms u in [0, 1)."""
    words = keyed_words([int(seed), dataset, image_id], n)
    words >>= np.uint64(11)
    values = words.astype(np.float64)
    values *= -(2.0**-53)
    np.log1p(values, out=values)
    return np.negative(values, out=values)


def _check_label_map(labels: LabelMap, image_id: str) -> None:
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ObservationsError(
            f"label map {image_id} has shape {labels.shape} and dtype {labels.dtype}; it must be (H, W) integers"
        )
