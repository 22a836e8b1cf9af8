"""The manifests of the paper's 17 datasets match the documentation of the datasets and their distributed form."""

from pathlib import Path

import numpy as np
import pytest
from data.label_images import record_of
from data.miniatures import (
    NAMES,
    build,
    limited,
    list_of,
    manifest_of,
    raw_values_of,
    write_label,
    write_segments,
)
from PIL import Image

from seg_transfer.data.audit import audit
from seg_transfer.data.fields import IGNORE
from seg_transfer.data.images import read_label, read_pair
from seg_transfer.data.manifest import DatasetManifest, load_manifests
from seg_transfer.data.records import absence_reason, list_records, low_shot_records
from seg_transfer.errors import DataError
from seg_transfer.resources import shipped
from seg_transfer.store.published import load_published

# Classes, images of train and eval where they are known, low-shot images, crop (height, width), mean, deviation.
STATED = {
    "ade20k": (150, 20210, 2000, 1000, (512, 512), (0.48457, 0.46567, 0.42435), (0.25889, 0.25577, 0.27500)),
    "bdd": (19, 7000, 1000, 150, (720, 1280), (0.36722, 0.41404, 0.42109), (0.25261, 0.26954, 0.28669)),
    "camvid": (31, 367, 101, 150, (624, 832), (0.41355, 0.42677, 0.43429), (0.31018, 0.31462, 0.31021)),
    "cityscapes": (32, 2975, 500, 150, (512, 1024), (0.28690, 0.32513, 0.28389), (0.18696, 0.19017, 0.18720)),
    "coco": (133, 118287, 5000, 1000, (713, 713), (0.46585, 0.44679, 0.40280), (0.27926, 0.27469, 0.28939)),
    "idd": (34, 6993, 981, 150, (624, 832), (0.35481, 0.36666, 0.35917), (0.27539, 0.28455, 0.30030)),
    "isaid": (15, None, None, 150, (713, 713), (0.32250, 0.32610, 0.30955), (0.18431, 0.17849, 0.17346)),
    "isprs": (5, 3800, None, 150, (713, 713), (0.33910, 0.36252, 0.34983), (0.14050, 0.13875, 0.13704)),
    "kitti": (32, 150, 50, 150, (512, 512), (0.37693, 0.39713, 0.38382), (0.30928, 0.31898, 0.32982)),
    "mapillary": (65, 18000, 2000, 150, (768, 1024), (0.41446, 0.45886, 0.46491), (0.26432, 0.27528, 0.30314)),
    "pascal_context": (60, 4998, 5105, 150, (420, 420), (0.45341, 0.43938, 0.40242), (0.27542, 0.27233, 0.28574)),
    "pascal_voc": (21, 10582, 1449, 150, (420, 420), (0.45311, 0.43725, 0.39964), (0.27577, 0.27251, 0.28561)),
    "scannet": (40, 19466, 5436, 150, (713, 713), (0.49658, 0.44941, 0.38261), (0.29161, 0.28444, 0.27809)),
    "suim": (7, 1525, 110, 150, (713, 713), (0.24384, 0.42244, 0.48276), (0.22207, 0.22300, 0.24705)),
    "sun_rgbd": (37, 5285, 475, 150, (713, 713), (0.48941, 0.45724, 0.42825), (0.27943, 0.28715, 0.29193)),
    "vgallery": (9, None, None, 150, (576, 1024), (0.39769, 0.35323, 0.25628), (0.28769, 0.29280, 0.29555)),
    "vkitti2": (14, 35740, 6780, 150, (375, 1242), (0.37927, 0.38754, 0.30581), (0.27026, 0.26976, 0.27124)),
}
# A raw value, or a color, and its class in the documentation of the dataset.
KNOWN = [
    ("ade20k", 1, "wall"),
    ("ade20k", 150, "flag"),
    ("ade20k", 0, None),
    ("bdd", 0, "road"),
    ("bdd", 18, "bicycle"),
    ("bdd", 255, None),
    ("camvid", (128, 64, 128), "Road"),
    ("camvid", (64, 0, 128), "Car"),
    ("camvid", (0, 0, 0), None),
    ("cityscapes", 1, "ego vehicle"),
    ("cityscapes", 7, "road"),
    ("cityscapes", 33, "bicycle"),
    ("cityscapes", 3, None),
    ("coco", 1, "person"),
    ("coco", 13, "stop sign"),
    ("coco", 90, "toothbrush"),
    ("coco", 187, "sky-other-merged"),
    ("coco", 200, "rug-merged"),
    ("idd", 0, "road"),
    ("idd", 17, None),
    ("idd", 18, "vehicle fallback"),
    ("idd", 34, "fallback background"),
    ("isaid", (0, 0, 63), "ship"),
    ("isaid", (0, 127, 255), "plane"),
    ("isprs", (255, 255, 255), "impervious_surfaces"),
    ("isprs", (255, 0, 0), None),
    ("kitti", 26, "car"),
    ("kitti", 0, None),
    ("mapillary", 13, "Road"),
    ("mapillary", 64, "Ego Vehicle"),
    ("mapillary", 65, None),
    ("pascal_context", 0, "background"),
    ("pascal_context", 1, "background"),
    ("pascal_context", 2, "aeroplane"),
    ("pascal_context", 458, "wood"),
    ("pascal_voc", 0, "background"),
    ("pascal_voc", 20, "tvmonitor"),
    ("pascal_voc", 255, None),
    ("scannet", 1, "wall"),
    ("scannet", 40, "otherprop"),
    ("suim", (0, 0, 255), "HD: Human divers"),
    ("suim", (0, 0, 0), None),
    ("sun_rgbd", 37, "bag"),
    ("vgallery", (128, 0, 0), "Painting"),
    ("vkitti2", (255, 127, 80), "Car"),
    ("vkitti2", (100, 60, 100), "Road"),
]
# Datasets whose label maps are known to hold stray values.
LENIENT = {"isprs", "suim"}
# A raw value that no manifest of the encoding lists.
STRAY = {"id": 254, "palette": 254, "mat": 460, "panoptic": 12, "rgb": 1 + 256 * 2 + 65536 * 3}
SIZE = (12, 16)


def packed(value: int | tuple[int, int, int]) -> int:
    return value if isinstance(value, int) else value[0] + 256 * value[1] + 65536 * value[2]


def written(path: Path, manifest: DatasetManifest, raw: np.ndarray) -> Path:
    """A label map of these raw values in the manifest's encoding."""
    annotation = write_label(path, manifest, raw, np.random.default_rng(0))
    if manifest.labels.encoding == "panoptic":
        write_segments(path, [annotation])
    return path


def test_the_manifests_have_the_names_of_the_published_tables() -> None:
    manifests = load_manifests(shipped("data_manifests"))
    pairs = load_published()
    assert sorted(NAMES) == list(manifests) == sorted({*pairs["source"], *pairs["target"]}) == sorted(STATED)
    classes = pairs.groupby("target")["n_target_classes"].first()
    assert {name: len(manifest.classes) for name, manifest in manifests.items()} == classes.to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_numbers_match_the_documentation(name: str) -> None:
    n_classes, n_train, n_eval, limit, crop, mean, std = STATED[name]
    manifest = manifest_of(name)
    assert (len(manifest.classes), manifest.train.count, manifest.eval.count) == (n_classes, n_train, n_eval)
    assert (manifest.low_shot.limit, manifest.low_shot.seed, manifest.crop_size) == (limit, 0, crop)
    assert manifest.mean == pytest.approx(mean, abs=5.1e-6)
    assert manifest.std == pytest.approx(std, abs=5.1e-6)
    assert manifest.licence
    assert manifest.citation
    assert manifest.notes
    assert "http" in (manifest.obtain or "")


@pytest.mark.parametrize(("name", "value", "meaning"), KNOWN)
def test_known_values_map_to_known_classes(name: str, value: int | tuple[int, int, int], meaning: str | None) -> None:
    manifest = manifest_of(name)
    index = manifest.raw_classes()[packed(value)]
    assert (None if index == IGNORE else manifest.classes[index]) == meaning


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_in_the_distributed_form_has_no_problems(name: str, tmp_path: Path) -> None:
    build(name, tmp_path, n_train=4, n_eval=3, size=SIZE)
    manifest = limited(manifest_of(name))
    assert absence_reason(manifest, tmp_path) == ""
    report = audit(manifest, tmp_path)
    assert report.problems == ()
    assert {split: found.n_images for split, found in report.splits.items()} == {"train": 4, "eval": 3, "low_shot": 4}
    for split in ("train", "eval"):
        assert report.missing_classes(split) == ()
        assert (report.splits[split].ignored_pixels > 0) == (IGNORE in manifest.raw_classes().values())
        for record in list_records(manifest, tmp_path, split):
            image, label = read_pair(record, manifest)
            assert image.shape[:2] == label.shape == SIZE
            assert len(np.unique(label[label != IGNORE])) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_every_listed_value_is_read_as_its_class(name: str, tmp_path: Path) -> None:
    manifest = manifest_of(name)
    classes = manifest.raw_classes()
    # Each value on two pixels, not beside each other, in an order that is not that of the classes.
    order = np.random.default_rng(5).permutation(list(classes))
    raw = np.stack([order, np.roll(order, 1)])
    label = read_label(record_of(written(tmp_path / f"labels/{name}.png", manifest, raw)), manifest)
    assert label.dtype == np.uint8
    assert label.tolist() == [[classes[value] for value in row] for row in raw.tolist()]
    assert set(label[label != IGNORE].tolist()) == set(range(len(manifest.classes)))


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_is_not_listed_is_named_or_ignored(name: str, tmp_path: Path) -> None:
    manifest = manifest_of(name)
    raw = np.full((3, 4), raw_values_of(manifest)[1])
    stray = STRAY[manifest.labels.encoding]
    raw[2, 1] = stray
    path = written(tmp_path / "labels/a.png", manifest, raw)
    assert (manifest.labels.unlisted == "ignore") == (name in LENIENT)
    if name in LENIENT:
        assert read_label(record_of(path), manifest).tolist() == [[1] * 4, [1] * 4, [1, IGNORE, 1, 1]]
        return
    value = r"color \(1, 2, 3\)" if stray > 65535 else f"value {stray}"
    with pytest.raises(DataError, match=rf"a\.png: {value} at row 2, column 1 is not in the label map of {name}"):
        read_label(record_of(path), manifest)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_dataset_is_reported_with_how_to_obtain_it(name: str, tmp_path: Path) -> None:
    manifest = manifest_of(name)
    with pytest.raises(DataError) as caught:
        low_shot_records(manifest, tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{name} train: {tmp_path / manifest.root} is not a folder; ")
    assert line.endswith(f"; to get the dataset: {manifest.obtain}")
    assert "\n" not in line
    assert line.endswith(absence_reason(manifest, tmp_path))
    (tmp_path / manifest.root).mkdir(parents=True)
    assert absence_reason(manifest, tmp_path).startswith(f"{tmp_path / manifest.root} has no ")


@pytest.mark.parametrize("name", NAMES)
def test_an_incomplete_download_is_detected(name: str, tmp_path: Path) -> None:
    build(name, tmp_path, n_train=3, n_eval=2, size=SIZE)
    manifest = manifest_of(name)
    for split in ("train", "eval"):
        wanted = getattr(manifest, split).count
        if wanted is not None:
            with pytest.raises(DataError, match=rf"{name} {split}: found . pairs, but {split}\.count is {wanted}"):
                list_records(manifest, tmp_path, split)


@pytest.mark.parametrize("name", ["kitti", "pascal_context", "pascal_voc", "scannet"])
def test_images_that_no_list_names_are_in_no_split(name: str, tmp_path: Path) -> None:
    build(name, tmp_path, n_train=4, n_eval=3, size=SIZE)
    manifest = limited(manifest_of(name))
    file = tmp_path / manifest.root / list_of(manifest, "train")
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([*others, others[0]]))  # one line twice
    assert len(list_records(manifest, tmp_path, "train")) == 3
    file.write_text("\n".join([first.replace("0", "9"), *others]))
    problems = audit(manifest, tmp_path).problems
    assert problems
    assert all("9" in problem for problem in problems)


def test_camvid_does_not_use_the_test_images(tmp_path: Path) -> None:
    build("camvid", tmp_path, n_train=6, n_eval=4, size=SIZE)
    root = tmp_path / "Camvid"
    for stem in ("0001TP_008550", "0001TP_010380", "Seq05VD_f00000"):
        (root / f"701_StillsRaw_full/{stem}.png").write_bytes(b"")
        (root / f"LabeledApproved_full/{stem}_L.png").write_bytes(b"")
    report = audit(limited(manifest_of("camvid")), tmp_path)
    assert report.problems == ()
    assert (report.splits["train"].n_images, report.splits["eval"].n_images) == (6, 4)


def test_sun_rgbd_is_evaluated_on_the_listed_images_only(tmp_path: Path) -> None:
    build("sun_rgbd", tmp_path, n_train=2, n_eval=3, size=SIZE)
    file = tmp_path / "SUNRGBD/splits/val.txt"
    file.write_text("\n".join(file.read_text().splitlines()[1:]))
    records = list_records(limited(manifest_of("sun_rgbd")), tmp_path, "eval")
    assert [record.image_id for record in records] == ["image/test/img-000502", "image/test/img-000503"]


def test_suim_cuts_the_label_maps_that_are_larger_than_their_images(tmp_path: Path) -> None:
    manifest = manifest_of("suim")
    assert len(manifest.labels.crop) == 37
    assert manifest.labels.crop["f_r_1259_"] == (435, 910)
    small = manifest.model_copy(update={"labels": manifest.labels.model_copy(update={"crop": {"f_r_1_": (5, 3)}})})
    raw = np.full((7, 9), packed((255, 255, 255)))
    raw[4, 2], raw[5:, :], raw[:, 3:] = packed((0, 255, 0)), STRAY["rgb"], packed((0, 0, 255))
    label = read_label(record_of(written(tmp_path / "f_r_1_.bmp", manifest, raw)), small)
    assert label.tolist() == [[6, 6, 6]] * 4 + [[6, 6, 1]]
    assert read_label(record_of(written(tmp_path / "f_r_2_.bmp", manifest, raw)), small).shape == (7, 9)


def test_voc_is_evaluated_on_the_official_label_maps(tmp_path: Path) -> None:
    """Those of SBD, which may lie in the other folder for the same images, have no ignored borders."""
    build("pascal_voc", tmp_path, n_train=2, n_eval=2, size=SIZE)
    root = tmp_path / "VOCdevkit/VOC2012"
    for file in (root / "SegmentationClass").iterdir():
        Image.new("L", SIZE[::-1]).save(root / "SegmentationClassAug" / file.name)
    records = list_records(limited(manifest_of("pascal_voc")), tmp_path, "eval")
    assert {record.label.parent.name for record in records} == {"SegmentationClass"}
