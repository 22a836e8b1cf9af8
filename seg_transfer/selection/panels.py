"""Held-out images beside their labels and what the winner of a race predicts, as small pictures for a page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from seg_transfer.data.label_ids import class_colors, label_ids
from seg_transfer.data.record import Record
from seg_transfer.evaluation import miou_of
from seg_transfer.prediction.run import blend
from seg_transfer.reports.race_page import Panels
from seg_transfer.selection.standings import Judgment, fold_items
from seg_transfer.stages.racing import racer_at_rest
from seg_transfer.store.atomic import replaced_atomically
from seg_transfer.study.run import Run
from seg_transfer.training.evaluate import predicted_pairs

N_IMAGES = 6
_WIDTH = 360
_KINDS = ("image", "labels", "prediction")


def panels_of(run: Run, winner: Judgment, folder: Path) -> list[Panels]:
    """Draw held-out images, from the best to the worst by their own mIoU; pictures that exist are not drawn again.

    Args:
        run: The study of the race.
        winner: What the winner reached where its race ended.
        folder: Folder of the pictures.

    Returns:
        The pictures; none of images whose pictures and whose network's checkpoint are gone.
    """
    shown = spread(dict(zip(winner.images, miou_of(winner.counts).tolist(), strict=True)))
    files = {name: _files(folder, winner, place) for place, name in enumerate(shown)}
    if not all(file.exists() for each in files.values() for file in each):
        _draw(run, winner, files)
    drawn = {name: miou for name, miou in shown.items() if all(file.exists() for file in files[name])}
    return [Panels(name, miou, tuple(file.read_bytes() for file in files[name])) for name, miou in drawn.items()]


def spread(miou: Mapping[str, float]) -> dict[str, float]:
    """Choose images from the best to the worst, evenly by rank; images without a label are left out.

    >>> spread({"a": 0.1, "b": 0.9, "c": float("nan")})
    {'b': 0.9, 'a': 0.1}
    """
    known = sorted((name for name, value in miou.items() if value == value), key=lambda name: -miou[name])
    places = np.linspace(0, len(known) - 1, min(N_IMAGES, len(known))).round().astype(int)
    return {known[place]: miou[known[place]] for place in places}


def _files(folder: Path, winner: Judgment, place: int) -> list[Path]:
    return [folder / f"{winner.source}_{winner.steps}_{place}_{kind}.jpg" for kind in _KINDS]


def _draw(run: Run, winner: Judgment, files: Mapping[str, Sequence[Path]]) -> None:
    target = run.study.targets[0]
    manifest = run.manifests[target]
    for item, fold in zip(fold_items(run, winner.source), run.folds(target), strict=True):
        wanted = [record for record in fold.held_out if record.image_id in files]
        network = racer_at_rest(run, item) if wanted else None
        if network is None:
            continue
        colors = class_colors(label_ids(manifest, fold.held_out))
        for record, (image, label, predicted) in zip(wanted, predicted_pairs(network, wanted, manifest), strict=True):
            pixels = _shrunk(Image.fromarray(image), label.shape, Image.Resampling.BILINEAR)
            known = _shrunk(Image.fromarray((label != manifest.ignore_index).astype(np.uint8)), label.shape)
            pictures = [pixels]
            for classes in (np.where(label == manifest.ignore_index, 0, label), predicted):
                small = _shrunk(Image.fromarray(classes.astype(np.int32)), label.shape)
                pictures.append(blend(pixels, colors[small]))
            # Pixels without a label show the image.
            pictures[1] = np.where(known[..., None] > 0, pictures[1], pixels)
            for file, picture in zip(files[record.image_id], pictures, strict=True):
                _write(picture, file)


def _shrunk(
    image: Image.Image, size: tuple[int, ...], how: Image.Resampling = Image.Resampling.NEAREST
) -> npt.NDArray[np.uint8]:
    height, width = size
    scale = min(1.0, _WIDTH / width)
    return np.asarray(image.resize((max(1, round(scale * width)), max(1, round(scale * height))), how))


def _write(picture: npt.NDArray[np.uint8], file: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=88)
    with replaced_atomically(file) as temporary:
        temporary.write_bytes(stream.getvalue())


def colors_of(run: Run) -> dict[str, tuple[int, int, int]]:
    """Return class -> its color in the pictures of a run's only target."""
    manifest = run.manifests[run.study.targets[0]]
    records: list[Record] = [record for fold in run.folds(manifest.name) for record in fold.held_out]
    colors = class_colors(label_ids(manifest, records)).tolist()
    return {name: tuple(color) for name, color in zip(manifest.classes, colors, strict=True)}
