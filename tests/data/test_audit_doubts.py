"""What the audit of a manifest doubts: every kind, the lines that answer it, and that these lines settle it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from data.audit_scenes import HEIGHT, WIDTH, write
from data.corpus.files import VOC, gray8, gray16, made, write_bands, write_image, write_oriented, write_palette
from data.corpus.scenes import colors, shapes
from PIL import Image

from seg_transfer.data.audit import AuditReport, audit, audit_dict, audit_lines
from seg_transfer.data.manifest import DatasetManifest

Manifest = Callable[..., DatasetManifest]
Label = npt.NDArray[np.uint8]


def kinds(report: AuditReport) -> list[str]:
    return [doubt.kind for doubt in report.doubts]


def id_labels(**fields: Any) -> dict[str, Any]:
    return {"encoding": "id", "ignore": [255]} | fields


Audited = Callable[..., AuditReport]


def test_plain_data_are_not_doubted(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path)
    report = audited()
    assert (report.problems, report.doubts) == ((), ())
    assert audit_lines(report)[-2:] == ["problems: 0", "doubtful: 0"]
    assert audit_dict(report)["doubtful"] == []
    assert list(report.splits) == ["train", "low_shot"]


def test_a_half_turn_in_exif_data(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path, image=lambda path, pixels: write_oriented(path, pixels, 3), images=".jpg")
    report = audited()
    assert report.problems == ()
    (doubt,) = report.doubts
    assert doubt.kind == "exif"
    assert doubt.line == (
        f"{tmp_path}/mini/train/images/a.jpg: EXIF orientation 3 (3 of 3 images); state images.exif: apply (label maps "
        "were drawn on the upright picture) or images.exif: ignore (label maps were drawn on the stored pixels)"
    )
    for reading in ("apply", "ignore"):
        assert audited(images={"exif": reading}).doubts == ()


def test_a_quarter_turn_that_label_maps_show(tmp_path: Path, audited: Audited) -> None:
    """Only one reading fits: as stored is the default, and upright must be stated."""

    def turned(path: Path, pixels: Label) -> None:
        write_oriented(path, np.rot90(pixels).copy(), 6)

    write(tmp_path, image=turned, images=".jpg")
    report = audited()
    assert len(report.problems) == 3  # sizes
    assert kinds(report) == ["exif"]
    assert [option for option, _ in report.doubts[0].readings] == ["images.exif: apply"]
    assert audited(images={"exif": "apply"}).problems == audited(images={"exif": "apply"}).doubts == ()
    write(tmp_path, image=lambda path, pixels: write_oriented(path, pixels, 6), images=".jpg")
    assert (audited().problems, audited().doubts) == ((), ())


def test_a_label_map_in_jpeg(tmp_path: Path, audited: Audited) -> None:
    """Its values are listed, which is no proof that they are right."""
    write(tmp_path)
    file = tmp_path / "mini/train/labels/b.png"
    with Image.open(file) as opened:
        opened.save(file.with_suffix(".jpg"), quality=95)
    file.unlink()
    four = ["sky", "road", "car", "bus"]
    report = audited(classes=four)
    assert report.problems == ()
    (doubt,) = report.doubts
    assert doubt.line == (
        f"{file.with_suffix('.jpg')} uses lossy compression (JPEG); state labels.unlisted: nearest (each "
        "counts as the nearest class) or labels.unlisted: ignore (they are ignored) or labels.unlisted: error (each is "
        "a class)"
    )
    for reading in ("nearest", "ignore", "error"):
        assert audited(classes=four, labels=id_labels(unlisted=reading)).doubts == ()


def test_blends_that_are_ids_of_other_classes(tmp_path: Path, audited: Audited) -> None:
    """Smoothing between 0 and 2 gives 1: no value is new, but edges show it."""

    def smooth(path: Path, label: Label) -> None:
        large = Image.fromarray(np.where(label == 2, 8, 0).astype(np.uint8)).resize((224, 160), Image.Resampling.BOX)
        large.resize((112, 80), Image.Resampling.BICUBIC).rotate(10, Image.Resampling.BILINEAR).save(path)

    write(tmp_path, smooth, lambda path, pixels: write_image(path, colors(80, 112, 1)))
    report = audited(classes=[f"c{index}" for index in range(10)], labels=id_labels())
    assert report.problems == ()
    assert "rare" in kinds(report)
    line = next(doubt.line for doubt in report.doubts if doubt.kind == "rare")
    assert line.endswith(
        "; state labels.map with these values (they are classes) or labels.map without them, and labels.unlisted: "
        "nearest or ignore (they are traces)"
    )
    listed = {value: value for value in range(10)}
    stated = audited(classes=[f"c{index}" for index in range(10)], labels=id_labels(map=listed))
    assert "rare" not in kinds(stated)
    nearest = audited(classes=["a", "b"], labels=id_labels(map={0: 0, 8: 1}, unlisted="nearest"))
    assert (nearest.problems, nearest.doubts) == ((), ())


def test_of_two_classes_none_is_a_blend(tmp_path: Path, audited: Audited) -> None:
    """Cracks are thin; and whether another file is damaged does not matter."""

    def cracks(path: Path, label: Label) -> None:
        gray8(path, np.eye(*label.shape))

    write(tmp_path, cracks)
    labels = id_labels()
    assert audited(classes=["road", "crack"], labels=labels).doubts == ()
    (tmp_path / "mini/train/labels/b.png").write_bytes(b"")
    damaged = audited(classes=["road", "crack"], labels=labels)
    assert (len(damaged.problems), damaged.doubts) == (1, ())


def test_ids_from_one_are_seen_even_where_unlisted_values_count_as_the_nearest(
    tmp_path: Path, audited: Audited
) -> None:
    write(tmp_path, lambda path, label: gray8(path, label + 1))
    for labels, n_problems in ((id_labels(), 3), (id_labels(unlisted="nearest"), 0), (id_labels(unlisted="ignore"), 0)):
        report = audited(labels=labels)
        assert len(report.problems) == n_problems
        (doubt,) = report.doubts
        assert doubt.line == (
            "label maps: 0 never occurs, and 3 is the highest value of 3 classes; state labels.map: {1: 0, ..., 3: 2} "
            "(value 1 is sky) or one more name in classes (value 0 is sky)"
        )
    settled = audited(labels=id_labels(map={1: 0, 2: 1, 3: 2}))
    assert (settled.problems, settled.doubts) == ((), ())
    assert settled.splits["train"].class_pixels.tolist() == [
        3 * int((shapes(HEIGHT, WIDTH) == index).sum()) for index in range(3)
    ]
    more = audited(classes=["void", "sky", "road", "car"])
    assert (more.problems, kinds(more)) == ((), ["unseen"])


def test_an_id_beyond_the_next_one_is_no_shift(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path, lambda path, label: gray8(path, label * 2 + 1))  # 1, 3, 5
    assert "first_id" not in kinds(audited())
    assert "first_id" not in kinds(audited(labels=id_labels(ignore=[3])))


def test_classes_that_never_occur(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path)
    names = ["sky", "road", "car", "bus", "van", "bike", "tram"]
    report = audited(classes=names)
    (doubt,) = report.doubts
    assert doubt.line == (
        "label maps: bus, van, bike and 1 more never occur in any split; state labels.map with all values (the names "
        "are right) or classes without them (they do not exist)"
    )
    assert audited(classes=names, labels=id_labels(map={value: value for value in range(7)})).doubts == ()
    gray8(tmp_path / "mini/train/labels/a.png", np.full((HEIGHT, WIDTH), 99))
    damaged = audited(classes=names)  # what cannot be counted may hold any class
    assert len(damaged.problems) == 1
    assert "unseen" not in kinds(damaged)


def test_most_pixels_are_ignored_in_one_split(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path)
    gray8(made(tmp_path / "mini/test/labels/x.png"), np.where(shapes(HEIGHT, WIDTH) == 0, 255, 1))
    write_image(made(tmp_path / "mini/test/images/x.png"), colors(HEIGHT, WIDTH, 9))
    ignored = float((shapes(HEIGHT, WIDTH) == 0).mean())
    report = audited(eval={"images": "test/images/*", "labels": "test/labels/*"})
    (doubt,) = report.doubts
    assert doubt.line == (
        f"eval: {ignored:.0%} of all pixels are ignored; state labels.ignore (they are, as stated there) or labels.map "
        "(they are a class, to be listed)"
    )


def test_palettes_that_give_an_index_two_colors(tmp_path: Path, audited: Audited) -> None:
    palettes = {"a": VOC[:3], "b": VOC[:3], "c": (VOC[0], VOC[2], VOC[1])}
    write(tmp_path, lambda path, label: write_palette(path, label, palettes[path.stem]))
    report = audited(labels={"encoding": "palette"})
    assert report.problems == ()
    (doubt,) = report.doubts
    labels = tmp_path / "mini/train/labels"
    assert doubt.line == (
        f"palette index 1 is color (128, 0, 0) in {labels}/a.png, but (0, 128, 0) in {labels}/c.png; state "
        "labels.encoding: palette (indices are classes) or labels.encoding: rgb (colors are classes)"
    )
    write(tmp_path, lambda path, label: write_palette(path, label, VOC[:3]))
    gray8(labels / "c.png", shapes(HEIGHT, WIDTH))  # gray values count as indices
    assert audited(labels={"encoding": "palette"}).doubts == ()


def test_palettes_of_formats_whose_header_does_not_hold_them_as_rgb(tmp_path: Path, audited: Audited) -> None:
    palettes = {"a": VOC[:3], "b": VOC[:3], "c": (VOC[0], VOC[2], VOC[1])}
    write(tmp_path, lambda path, label: write_palette(path, label, palettes[path.stem]), labels=".bmp")
    assert kinds(audited(labels={"encoding": "palette"})) == ["palettes"]


def test_images_of_12_bits(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path, image=lambda path, pixels: gray16(path, pixels[..., 0].astype(np.uint16) * 16 + 15))
    report = audited()
    (doubt,) = report.doubts
    brightest = 16 * max(int(colors(HEIGHT, WIDTH, seed)[..., 0].max()) for seed in range(3)) + 15
    assert f"to {brightest} in 3 images of 16 bits, of which the upper half is empty" in doubt.line
    assert [option for option, _ in doubt.readings] == ["images.range: [0, 4095]", "images.range: [0, 65535]"]
    assert audited(images={"range": [0, 4095]}).doubts == ()


def test_bands_that_would_be_dropped(tmp_path: Path, audited: Audited) -> None:
    pytest.importorskip("rasterio")

    def four(path: Path, pixels: Label) -> None:
        write_bands(path, np.concatenate([pixels, pixels[..., :1]], axis=2).transpose(2, 0, 1))

    write(tmp_path, image=four, images=".tif")
    assert kinds(audited()) == ["bands"]
    assert [option for option, _ in audited().doubts[0].readings] == [
        "images.bands: [1, 2, 3]",
        "images.bands: [3, 2, 1]",
    ]
    assert audited(images={"bands": [3, 2, 1]}).doubts == ()


def test_an_image_of_one_color_with_several_classes(tmp_path: Path, audited: Audited) -> None:
    write(tmp_path)
    write_image(tmp_path / "mini/train/images/b.png", np.full((HEIGHT, WIDTH, 3), 7, np.uint8))
    report = audited()
    (doubt,) = report.doubts
    assert doubt.line == (
        f"{tmp_path}/mini/train/labels/b.png: shows several classes, but its image has one color; state exclude in the "
        "split (leaves the pair out)"
    )
    gray8(tmp_path / "mini/train/labels/b.png", np.zeros((HEIGHT, WIDTH)))  # an empty picture, and labeled so
    assert audited().doubts == ()


def test_annotations_are_drawn_and_show_no_traces(tmp_path: Path, manifest: Manifest) -> None:
    """A thin polygon is a class, though hardly any of its pixels fill a block."""
    write_image(made(tmp_path / "mini/a.png"), colors(HEIGHT, WIDTH, 1))
    lines = [("road", [[1, 1], [50, 1]]), ("car", [[2, 30], [50, 30]])]
    drawn = [{"label": name, "points": points, "shape_type": "line"} for name, points in lines]
    thin = [shape | {"shape_type": "polygon", "points": [*shape["points"], shape["points"][0]]} for shape in drawn]
    about = {"shapes": thin, "imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": "a.png"}
    (tmp_path / "mini/a.json").write_text(json.dumps(about))
    labels = {"encoding": "labelme", "names": {"road": 1, "car": 2}, "background": 0}
    report = audit(manifest(labels=labels, train={"images": "*.png", "labels": "*.json"}, eval=None), tmp_path)
    assert (report.problems, report.doubts) == ((), ())
