"""The ``seg-transfer predict`` command."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seg_transfer.cli.options import AsJson, Debug, Device, Threads, TrustConfig
from seg_transfer.errors import IncompleteError, SegTransferError, printable

if TYPE_CHECKING:
    from seg_transfer.prediction.images import Task
    from seg_transfer.prediction.predictor import Predictor
    from seg_transfer.prediction.run import Prediction

_logger = logging.getLogger(__name__)

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="Folder of a trained network: RUN/sources/SOURCE, or RUN/fine_tuned/SOURCE/TARGET/SEED.",
        show_default=False,
    ),
]
Images = Annotated[
    list[Path], typer.Option(help="Image, or folder of images and all folders below; repeatable.", show_default=False)
]
Out = Annotated[Path, typer.Option(help="Folder for the label maps and overlays.", show_default=False)]
Overlay = Annotated[bool, typer.Option(help="Also write NAME_overlay.png: the image with its classes in color.")]
Exif = Annotated[
    Literal["apply", "ignore"] | None,
    typer.Option(help="Whether the orientation stored in image files is applied; as in training by default."),
]
ShortSide = Annotated[
    int | None,
    typer.Option(min=1, help="Resize images so that the shorter side has so many pixels; as in training by default."),
]
TileSize = Annotated[
    int | None, typer.Option(min=1, help="Predict larger images in tiles of this side; as in training by default.")
]


def predict(
    folder: Folder,
    images: Images,
    out: Out,
    overlay: Overlay = True,
    exif: Exif = None,
    short_side: ShortSide = None,
    tile_size: TileSize = None,
    device: Device = "auto",
    threads: Threads = 0,
    trust_config: TrustConfig = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Predict images with a trained network: write label maps in its dataset's own ids, and overlays in color."""
    from seg_transfer.cli.common import warn_about_code
    from seg_transfer.engines.here import limit_threads
    from seg_transfer.models.devices import chosen_device
    from seg_transfer.prediction.images import plan_tasks
    from seg_transfer.prediction.predictor import code_in, load_predictor, read_card
    from seg_transfer.prediction.run import predict_images

    tasks = plan_tasks(images, out, overlay=overlay)
    if not trust_config:
        warn_about_code(code_in(read_card(folder)))
    with limit_threads(threads):
        predictor = load_predictor(
            folder, device=chosen_device(device), short_side=short_side, tile_size=tile_size, exif=exif
        )
        done, failed = predict_images(predictor, tasks)
    if as_json:
        typer.echo(json.dumps(_as_dict(predictor, done, failed), indent=1))
    else:
        _print(predictor, done, out)
    _say_turned(tasks, predictor)
    _raise_if_any(failed)


def _as_dict(
    predictor: Predictor, done: Sequence[Prediction], failed: Mapping[str, SegTransferError]
) -> dict[str, Any]:
    ids = zip(predictor.classes, predictor.labels.ids, strict=True)
    return {
        "labels": predictor.labels.kind,
        "classes": [{"name": name, "id": value} for name, value in ids],
        "images": [
            {
                "image": str(prediction.task.image),
                "labels": str(prediction.task.labels),
                "overlay": str(prediction.task.overlay) if prediction.task.overlay else None,
                "height": prediction.size[0],
                "width": prediction.size[1],
                "pixels": dict(zip(predictor.classes, prediction.pixels, strict=True)),
            }
            for prediction in done
        ],
        "failed": {image: str(error) for image, error in failed.items()},
    }


def _print(predictor: Predictor, done: Sequence[Prediction], out: Path) -> None:
    """Print how common each class is, as a table; the last line says where the files are."""
    from rich.table import Table

    from seg_transfer.console import plain_console

    if not done:
        return
    table = Table("class", "id", "share of pixels", "images")
    n_pixels = sum(sum(prediction.pixels) for prediction in done)
    for index, (name, value) in enumerate(zip(predictor.classes, predictor.labels.ids, strict=True)):
        counts = [prediction.pixels[index] for prediction in done]
        n_images = sum(count > 0 for count in counts)
        shown = "-" if value is None else " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        table.add_row(printable(name), shown, f"{sum(counts) / n_pixels:.1%}", str(n_images))
    plain_console().print(table)
    what = "label map and overlay" if done[0].task.overlay else "label map"
    images = "1 image" if len(done) == 1 else f"{len(done)} images"
    typer.echo(printable(f"{images}: {what} of each in {out}"))


def _say_turned(tasks: Sequence[Task], predictor: Predictor) -> None:
    """Say once which images are stored turned, because their label maps are turned too."""
    from seg_transfer.prediction.run import turned_images

    if predictor.reading.exif == "apply" or "exif" in predictor.reading.model_fields_set:
        return
    if turned := turned_images(tasks):
        more = f" and {len(turned) - 1} more" if len(turned) > 1 else ""
        _logger.warning(
            "%s%s: stored turned, and predicted as stored, like the images of the training; --exif apply turns images "
            "upright, --exif ignore does not say this",
            turned[0],
            more,
        )


def _raise_if_any(failed: Mapping[str, SegTransferError]) -> None:
    if failed:
        codes = {error.exit_code for error in failed.values()}
        raise IncompleteError(
            f"failed: {', '.join(failed)}; all others are written; fix or remove these images",
            exit_code=codes.pop() if len(codes) == 1 else None,
            reasons={image: str(error) for image, error in failed.items()},
        )
