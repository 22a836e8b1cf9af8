"""What is written for an image: the label map, in the ids of the dataset, and the overlay."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from prediction.conftest import COLOR_IDS, COLORS

from seg_transfer.data.label_ids import LabelIds, distinct_colors
from seg_transfer.data.record import ImageReading
from seg_transfer.data.scene_tiles import Tiles
from seg_transfer.errors import ComputationError, DataError
from seg_transfer.prediction import run
from seg_transfer.prediction.images import plan_tasks
from seg_transfer.prediction.predictor import Predictor
from seg_transfer.prediction.run import Prediction, predict_images, turned_images

Make, Paint = Callable[..., Predictor], Callable[..., np.ndarray]


def predicted(predictor: Predictor, *images: Path, overlay: bool = True) -> list[Prediction]:
    done, failed = predict_images(predictor, plan_tasks(images, images[0].parent / "out", overlay=overlay))
    assert failed == {}
    return done


def test_the_label_map_holds_the_classes_of_all_pixels(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    classes = paint(tmp_path / "a.png")
    (found,) = predicted(predictor(), tmp_path / "a.png")
    with Image.open(tmp_path / "out" / "a.png") as labels:
        assert labels.mode == "L"
        assert np.array_equal(labels, classes)
    assert found.size == (20, 33)
    assert found.pixels == tuple(np.bincount(classes.ravel(), minlength=3))


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("size", [(57, 41), (20, 33), (7, 10)])
def test_regions_keep_their_place_at_any_size(
    tmp_path: Path, predictor: Make, paint: Paint, size: tuple[int, int], multiple: int
) -> None:
    """The network sees another size, padded to multiples of 16; borders may move by half a pixel of that size."""
    classes = paint(tmp_path / "a.png", size)
    (found,) = predicted(predictor(multiple), tmp_path / "a.png")
    labels = np.asarray(Image.open(found.task.labels))
    assert labels.shape == size
    inner = np.ones(size, bool)
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            inner &= np.roll(classes, shift, axis) == classes
    assert np.array_equal(labels[inner], classes[inner])
    assert (labels == classes).mean() > 0.85


@pytest.mark.parametrize("multiple", [1, 16])
def test_tiles_give_what_the_whole_image_gives(tmp_path: Path, predictor: Make, paint: Paint, multiple: int) -> None:
    classes = paint(tmp_path / "a.png", (50, 70))
    in_tiles = predictor(multiple, tiles=Tiles(above=400, size=20), labels=COLOR_IDS)
    (found,) = predicted(in_tiles, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(found.task.labels)), np.array(COLOR_IDS.ids)[classes])
    colors = np.array(COLOR_IDS.ids)[classes].astype(int)
    assert np.array_equal(np.asarray(Image.open(found.task.overlay)), (COLORS[classes] + colors + 1) // 2)
    assert sum(found.pixels) == 50 * 70


def test_the_overlay_is_half_image_and_half_color(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    classes = paint(tmp_path / "a.png")
    (found,) = predicted(predictor(), tmp_path / "a.png")
    shown = np.asarray(Image.open(found.task.overlay))
    assert np.array_equal(shown, (COLORS[classes].astype(int) + distinct_colors(3)[classes] + 1) // 2)


def test_without_overlays_none_is_drawn(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    paint(tmp_path / "a.png")
    predicted(predictor(), tmp_path / "a.png", overlay=False)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.png"]


def test_classes_that_label_maps_lack_are_never_predicted(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    classes = paint(tmp_path / "a.png")
    (found,) = predicted(predictor(labels=LabelIds(kind="values", ids=(7, None, 4000))), tmp_path / "a.png")
    labels = np.asarray(Image.open(found.task.labels))
    assert np.array_equal(labels == 4000, classes == 2)
    assert set(np.unique(labels)) == {7, 4000}
    assert found.pixels[1] == 0


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_turned_images_are_turned_as_in_training(
    tmp_path: Path, predictor: Make, paint: Paint, orientation: int, exif: str
) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = tmp_path / "a.png"
    paint(path, (40, 66), exif=tags)
    with Image.open(path) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image) if exif == "apply" else image)
    (found,) = predicted(predictor(reading=ImageReading(exif=exif)), path)
    labels = np.asarray(Image.open(found.task.labels))
    assert labels.shape == pixels.shape[:2]
    assert (labels == pixels.argmax(axis=2)).mean() > 0.9
    assert turned_images([found.task]) == ([] if orientation == 1 else [path])


def test_one_bad_image_stops_no_other(
    tmp_path: Path, predictor: Make, paint: Paint, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path / "in" / "a.png")
    paint(tmp_path / "in" / "z.png")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no image")
    Image.new("RGB", (1, 65)).save(tmp_path / "in" / "narrow.png")
    tasks = plan_tasks([tmp_path / "in"], tmp_path / "out", overlay=True)
    done, failed = predict_images(predictor(), tasks)
    assert [prediction.task.image.name for prediction in done] == ["a.png", "z.png"]
    names = {Path(image).name: error for image, error in failed.items()}
    assert {name: type(error) for name, error in names.items()} == {"bad.jpg": DataError, "narrow.png": DataError}
    narrow = "65 x 1 pixels: longer than 64 times its shorter side; cut it"
    assert str(names["narrow.png"]) == f"{tmp_path / 'in' / 'narrow.png'}: {narrow}"
    assert caplog.messages == [str(error) for error in failed.values()]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("a.png", "a_overlay.png", "z.png", "z_overlay.png")
    ]


def test_scores_that_are_not_finite_fail_the_image(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    paint(tmp_path / "a.png")
    broken = predictor()
    broken.source.network.classifier.bias.data.fill_(float("nan"))
    _, failed = predict_images(broken, plan_tasks([tmp_path / "a.png"], tmp_path / "out", overlay=True))
    (error,) = failed.values()
    assert isinstance(error, ComputationError)
    assert str(error).startswith(f"{tmp_path / 'a.png'}: the network gives scores that are not finite")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_command(tmp_path: Path, predictor: Make, paint: Paint, monkeypatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    paint(tmp_path / "a.png")
    monkeypatch.setattr(run, "replaced_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        predict_images(predictor(), plan_tasks([tmp_path / "a.png"], tmp_path / "out", overlay=True))


def test_a_name_that_is_too_long_fails_its_image_alone(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    long, short = tmp_path / f"{'n' * 240}.png", tmp_path / "a.png"
    paint(long)
    paint(short)
    done, failed = predict_images(predictor(), plan_tasks([long, short], tmp_path / "out", overlay=True))
    assert [prediction.task.image for prediction in done] == [short]
    assert str(failed[str(long)]) == f"{long}: its name is too long for the files to write; shorten it"


def test_files_are_replaced(tmp_path: Path, predictor: Make, paint: Paint) -> None:
    classes = paint(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("old")
    predicted(predictor(), tmp_path / "a.png")
    assert np.array_equal(Image.open(tmp_path / "out" / "a.png"), classes)
