"""A trained network that predicts images as it was evaluated: loaded from the folder of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from seg_transfer.data.decoding import MAX_DECODED_PIXELS
from seg_transfer.data.images import resize_to_short_side
from seg_transfer.data.label_ids import LabelIds, class_indices
from seg_transfer.data.record import ImageReading, Window
from seg_transfer.data.rgb import read_rgb, read_size
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.errors import CheckpointError, ComputationError, ConfigError, DataError
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.source_model import SourceModel
from seg_transfer.models.trained import code_of
from seg_transfer.prediction.classes import Classes, best_classes, parts_of
from seg_transfer.store.content_key import sha256_of_file
from seg_transfer.store.source_card import FILE_NAME, SourceCard, read_source_card

# An image of one row would be enlarged to hundreds of rows, and fill the memory.
_MAX_ASPECT = 64
Exif = Literal["apply", "ignore"]


class Piece(NamedTuple):
    """A part of an image: its `window` (top, left, height, width), its RGB `pixels`, and the `classes` of these."""

    window: Window
    pixels: npt.NDArray[np.uint8]
    classes: Classes


@dataclass(frozen=True)
class Predictor:
    """A network, and how it takes images and names classes.

    Attributes:
        source: The network.
        classes: Class names, in the order of its scores.
        labels: How label maps are written.
        short_side: Images are resized so that their shorter side has this many pixels.
        reading: How images are read.
        tiles: Which images are predicted in tiles.
    """

    source: SourceModel
    classes: tuple[str, ...]
    labels: LabelIds
    short_side: int
    reading: ImageReading
    tiles: Tiles

    def pieces(self, image: Path) -> Iterator[Piece]:
        """Yield the predicted parts of an image; together they are the image, upright if its reading says so.

        Raises:
            DataError: The image cannot be read, or is too large or too narrow.
            ComputationError: The network gives scores that are not finite.
        """
        height, width = read_size(image, self.reading)
        if height * width > MAX_DECODED_PIXELS:
            raise DataError(
                f"{image}: {height} x {width} pixels, but a label map has at most {MAX_DECODED_PIXELS}; cut the image"
            )
        parts = parts_of(height, width, self.tiles)
        for part in parts:
            pixels = read_rgb(image, self.reading, part.window if len(parts) > 1 else None)
            classes = self.predict(pixels, str(image))
            kept = _inside(part.window, part.kept)
            yield Piece(part.kept, pixels[kept], classes[kept])

    def predict(self, pixels: npt.NDArray[np.uint8], name: str = "image") -> Classes:
        """Predict the class of every pixel.

        Args:
            pixels: RGB (H, W, 3).
            name: What messages call the image.

        Returns:
            Class indices (H, W), of classes that label maps can hold.

        Raises:
            DataError: The image is too narrow.
            ComputationError: The network gives scores that are not finite.
        """
        height, width = pixels.shape[:2]
        if max(height, width) > _MAX_ASPECT * min(height, width):
            raise DataError(
                f"{name}: {height} x {width} pixels: longer than {_MAX_ASPECT} times its shorter side; cut it"
            )
        if max(height, width) * self.short_side**2 > MAX_DECODED_PIXELS * min(height, width):
            raise DataError(
                f"{name}: its shorter side would be resized to {self.short_side} pixels, which makes more than "
                f"{MAX_DECODED_PIXELS} pixels; state another --short-side"
            )
        resized = resize_to_short_side(pixels, self.short_side)
        maps = self.source.feature_maps(torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))[None])
        assert maps.scores is not None
        if not torch.isfinite(maps.scores).all():
            raise ComputationError(f"{name}: the network gives scores that are not finite; its weights are of no use")
        known = np.array(self.labels.known, np.min_scalar_type(len(self.classes) - 1))
        if len(known) == len(self.classes):
            return best_classes(maps.scores, maps.extent, (height, width))
        best: Classes = known[best_classes(maps.scores[:, known.tolist()], maps.extent, (height, width))]
        return best


def load_predictor(
    folder: Path,
    *,
    device: str = "cpu",
    short_side: int | None = None,
    tile_size: int | None = None,
    exif: Exif | None = None,
) -> Predictor:
    """Load the network in a folder that training or fine-tuning has written; runs the code that `code_in` names.

    Args:
        folder: The folder of its ``source.json``, or that file.
        device: A torch device.
        short_side, exif: Use these instead of what the folder says.
        tile_size: Side of a tile in pixels; images with more pixels than a tile are predicted in tiles. By default as
            the folder says.

    Raises:
        ConfigError: The folder has no ``source.json``, or it does not say how images are resized.
        CheckpointError: The card or the weights are damaged, or do not fit each other.
    """
    file = folder if folder.name == FILE_NAME else folder / FILE_NAME
    card = read_card(folder)
    taken = card.input
    side = short_side or (taken and taken.short_side)
    if not side:
        raise ConfigError(
            f"{file}: does not say how images are resized, because an older version wrote it; state the shorter side "
            "of crop_size in the manifest of the dataset it was trained on as --short-side"
        )
    _check_weights(card, file)
    source = load_source_model(file, device=device, trust_code=True)
    labels = card.labels or class_indices(len(card.classes))
    if not len(labels.ids) == len(card.classes) == source.n_classes:
        raise CheckpointError(
            f"{file}: has {len(card.classes)} classes, ids of {len(labels.ids)} and a network of {source.n_classes}; "
            "train the source again"
        )
    tiles = Tiles(above=tile_size**2, size=tile_size) if tile_size else (taken and taken.tiles) or Tiles()
    reading = taken.images if taken else ImageReading()
    reading = reading.model_copy(update={"exif": exif}) if exif else reading
    return Predictor(source, card.classes, labels, side, reading, tiles)


def read_card(folder: Path) -> SourceCard:
    """Read the card of a trained network; raises ConfigError if there is none, CheckpointError if it is damaged."""
    file = folder if folder.name == FILE_NAME else folder / FILE_NAME
    if not file.is_file():
        raise ConfigError(
            f"{folder}: has no {FILE_NAME}; name the folder of a trained network: RUN/sources/SOURCE, or "
            "RUN/fine_tuned/SOURCE/TARGET/SEED of a study with keep_weights: true"
        )
    return read_source_card(file)


def code_in(card: SourceCard) -> list[str]:
    """List the code from outside this package that loading a trained network runs, as messages name it."""
    return code_of(card.model)


def _check_weights(card: SourceCard, file: Path) -> None:
    weights = card.weights_file(file.parent)
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such checkpoint file, although {file} names it; copy it there")
    if sha256_of_file(weights) != card.sha256:
        raise CheckpointError(f"{weights}: its contents differ from what {file} describes; copy both of one training")


def _inside(window: Window, kept: Window) -> tuple[slice, slice]:
    """Return the rows and columns of a window that are kept."""
    top, left = kept[0] - window[0], kept[1] - window[1]
    return slice(top, top + kept[2]), slice(left, left + kept[3])
