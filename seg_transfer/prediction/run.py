"""Predicts images, and writes their label maps and overlays."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.label_ids import class_colors, draw_labels
from seg_transfer.data.orientation import exif_orientation
from seg_transfer.data.rgb import read_size
from seg_transfer.data.scenes import forget_scenes
from seg_transfer.errors import DataError, SegTransferError, as_failure
from seg_transfer.prediction.images import Task
from seg_transfer.prediction.predictor import Piece, Predictor
from seg_transfer.progress import progress_of
from seg_transfer.store.atomic import replaced_atomically

_logger = logging.getLogger(__name__)
_ROWS = 256


@dataclass(frozen=True)
class Prediction:
    """A predicted image.

    Attributes:
        task: The image and the files that were written for it.
        size: Height and width, in pixels.
        pixels: Number of pixels of every class, in class order.
    """

    task: Task
    size: tuple[int, int]
    pixels: tuple[int, ...]


def predict_images(predictor: Predictor, tasks: Sequence[Task]) -> tuple[list[Prediction], dict[str, SegTransferError]]:
    """Predict images one after the other; existing files are replaced, each at once.

    Returns:
        The predictions, and image -> error of those that failed. Each error was logged in one line.

    Raises:
        OSError: A file cannot be written.
    """
    done: list[Prediction] = []
    failed: dict[str, SegTransferError] = {}
    with progress_of("predict") as tick:
        for number, task in enumerate(tasks, start=1):
            try:
                done.append(_predict(predictor, task))
            except OSError:  # a fault of the machine, such as a full disk
                raise
            except Exception as error:  # networks and libraries fail in arbitrary ways
                _logger.debug("%s", task.image, exc_info=True)
                failed[str(task.image)] = _say(task.image, as_failure(error))
            tick(number, len(tasks))
    forget_scenes()
    return done, failed


def turned_images(tasks: Sequence[Task]) -> list[Path]:
    """List the images whose EXIF data say that they are stored turned or reflected."""
    turned = []
    for task in tasks:
        with suppress(DataError):  # whoever decodes the image reports this
            if exif_orientation(task.image) != 1:
                turned.append(task.image)
    return turned


def _say(image: Path, failure: SegTransferError) -> SegTransferError:
    """Log a failure in one line that names the image."""
    _logger.error("%s", failure if str(image) in str(failure) else f"{image}: {failure}")
    return failure


def _predict(predictor: Predictor, task: Task) -> Prediction:
    height, width = read_size(task.image, predictor.reading)
    n_classes = len(predictor.classes)
    colors = class_colors(predictor.labels)
    counts = np.zeros(n_classes, np.int64)
    classes: npt.NDArray[np.integer] = np.empty((0, 0), np.uint8)
    overlay: Image.Image | None = None
    for top, left, pixels, predicted in _strips(predictor.pieces(task.image)):
        if not classes.size:  # the first strip: the image can be read
            classes = np.empty((height, width), np.min_scalar_type(n_classes - 1))
            overlay = Image.new("RGB", (width, height)) if task.overlay else None
        rows, columns = predicted.shape
        classes[top : top + rows, left : left + columns] = predicted
        counts += np.bincount(predicted.ravel(), minlength=n_classes)
        if overlay is not None:
            overlay.paste(Image.fromarray(blend(pixels, colors[predicted])), (left, top))
    _write(draw_labels(classes, predictor.labels), task.labels, task.image)
    if overlay is not None and task.overlay is not None:
        _write(overlay, task.overlay, task.image)
    return Prediction(task, (height, width), tuple(counts.tolist()))


def _strips(
    pieces: Iterable[Piece],
) -> Iterator[tuple[int, int, npt.NDArray[np.uint8], npt.NDArray[np.integer]]]:
    """Yield top, left, pixels and classes of strips of a few rows: what is computed from them takes more memory."""
    for (top, left, rows, _), pixels, classes in pieces:
        for row in range(0, rows, _ROWS):
            yield top + row, left, pixels[row : row + _ROWS], classes[row : row + _ROWS]


def blend(pixels: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lay colors over pixels, half transparent, rounding halves up.

    >>> blend(np.array([0, 255, 10], np.uint8), np.array([255, 255, 13], np.uint8)).tolist()
    [128, 255, 12]
    """
    return ((pixels.astype(np.uint16) + colors + 1) >> 1).astype(np.uint8)


def _write(image: Image.Image, file: Path, name: Path) -> None:
    try:
        with replaced_atomically(file) as temporary:
            image.save(temporary, format="PNG")
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise DataError(f"{name}: its name is too long for the files to write; shorten it") from error
