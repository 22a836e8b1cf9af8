"""Tiny copies of the paper's seventeen datasets: folders, file names and label encodings as distributed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from seg_transfer.data.fields import IGNORE
from seg_transfer.data.manifest import DatasetManifest, load_manifest
from seg_transfer.resources import shipped

Values = NDArray[np.integer[Any]]
# Image, label map and, where lists choose, the line of a list; all below the dataset's root.
Files = tuple[str, str, str | None]

# Numbers of files, so that splits that share a folder share no file.
_FIRST = {"train": 1, "eval": 501}
_VOC = {"train": "2008_{:06d}", "eval": "2010_{:06d}"}


def build(name: str, root: Path, n_train: int = 4, n_eval: int = 2, size: tuple[int, int] = (48, 64)) -> None:
    """Write a miniature of a dataset into the data root ``root``.

    Images are noise. Label maps hold regions of several classes, in such a way that all classes and all ignored values
    occur in each split if it has pixels enough. ``size`` is (height, width).
    """
    manifest = manifest_of(name)
    folder = root / manifest.root
    generator = np.random.default_rng([17, *name.encode()])
    raw_values = raw_values_of(manifest)
    for split, count in (("train", n_train), ("eval", n_eval)):
        lines, annotations = [], []
        for number, values in enumerate(_dealt(raw_values, count)):
            image, label, line = _FILES[name](split, _FIRST[split] + number)
            raw = _regions(values, size, generator)
            _write_image(folder / image, generator.integers(0, 256, (*size, 3), np.uint8))
            annotations.append(write_label(folder / label, manifest, raw, generator))
            lines.append(line)
        if lines[0] is not None:
            listed = folder / list_of(manifest, split)
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("".join(f"{line}\n" for line in lines))
        if manifest.labels.encoding == "panoptic":
            write_segments(folder / _FILES[name](split, 1)[1], annotations)


def manifest_of(name: str) -> DatasetManifest:
    """The manifest of one of the seventeen."""
    return load_manifest(shipped(f"data_manifests/{name}.yaml"))


def limited(manifest: DatasetManifest) -> DatasetManifest:
    """The manifest without the number of files, which a miniature cannot have."""
    assert manifest.eval is not None
    splits = {name: getattr(manifest, name).model_copy(update={"count": None}) for name in ("train", "eval")}
    return manifest.model_copy(update=splits)


def write_manifest(name: str, folder: Path, crop_size: tuple[int, int] = (48, 64)) -> None:
    """The same as a file, for a study of miniatures, with the size that their images are resized and cropped to."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = yaml.safe_load(shipped(f"data_manifests/{name}.yaml").read_text())
    for split in ("train", "eval"):
        fields[split].pop("count", None)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(fields | {"crop_size": list(crop_size)}))


def raw_values_of(manifest: DatasetManifest) -> list[int]:
    """One raw value of every class, in class order, then the ignored ones; colors packed as R + 256 G + 65536 B."""
    classes = manifest.raw_classes()
    first = {index: value for value, index in reversed(classes.items()) if index != IGNORE}
    return [first[index] for index in sorted(first)] + [value for value, index in classes.items() if index == IGNORE]


def list_of(manifest: DatasetManifest, split: str) -> str:
    """The list file of a split, below the dataset's root."""
    wanted = getattr(manifest, split)
    (found,) = wanted.lists + wanted.stems
    return str(found)


def write_label(path: Path, manifest: DatasetManifest, raw: Values, generator: np.random.Generator) -> dict[str, Any]:
    """Write a label map in the manifest's encoding; of a panoptic one the annotation is returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = manifest.labels
    match labels.encoding:
        case "mat":
            savemat(path, {labels.variable: raw.astype(np.uint16)}, do_compression=True)
        case "rgb":
            Image.fromarray(_colors(raw)).save(path)
        case "palette":
            image = Image.fromarray(raw.astype(np.uint8)).convert("P")
            image.putpalette(generator.integers(0, 256, 768, np.uint8).tobytes())
            image.putdata(raw.ravel().tolist())
            image.save(path)
        case "panoptic":
            ids, annotation = _segments(path.name, raw, generator)
            Image.fromarray(_colors(ids)).save(path)
            return annotation
        case _:
            Image.fromarray(raw.astype(np.uint8)).save(path)
    return {}


def write_segments(label: Path, annotations: list[dict[str, Any]]) -> None:
    """The JSON of a folder of panoptic PNGs, with the other parts that COCO's has."""
    content = {"info": {}, "licenses": [], "images": [{"id": 1, "file_name": "1.jpg"}], "annotations": annotations}
    file = label.parent.with_name(f"{label.parent.name}.json")
    file.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "person", "isthing": 1}]}))


def _dealt(values: list[int], n_images: int) -> Iterator[list[int]]:
    """The values that each image shows: dealt out in turn, so that together they show all, and some in every image."""
    for number in range(n_images):
        yield list(dict.fromkeys([*values[number::n_images], *values[:3]]))


def _regions(values: list[int], size: tuple[int, int], generator: np.random.Generator) -> Values:
    """Vertical and horizontal strokes of each value in turn, later ones over earlier ones, and a pixel of each left."""
    height, width = size
    raw = np.full(size, values[0])
    for value in values:
        top, left = generator.integers(0, height), generator.integers(0, width)
        raw[top : top + max(height // 4, 1), left : left + max(width // 4, 1)] = value
    places = generator.choice(height * width, len(values), replace=False)
    raw.flat[places] = values
    return raw


def _segments(name: str, raw: Values, generator: np.random.Generator) -> tuple[Values, dict[str, Any]]:
    """Segment ids of up to three bytes for category values, two segments of each category; 0 stays 0."""
    halves = raw * 2 + (np.arange(raw.size).reshape(raw.shape) % 2)
    shown, index = np.unique(halves, return_inverse=True)
    ids = generator.choice(2**24 - 1, len(shown), replace=False) + 1
    ids[shown // 2 == 0] = 0
    pairs = [(number, half // 2) for number, half in zip(ids.tolist(), shown.tolist(), strict=True) if number]
    info = [{"id": number, "category_id": category, "iscrowd": 0, "area": 1} for number, category in pairs]
    return ids[index].reshape(raw.shape), {"file_name": name, "image_id": 1, "segments_info": info}


def _colors(codes: Values) -> NDArray[np.uint8]:
    return np.stack([codes % 256, codes // 256 % 256, codes // 65536], 2).astype(np.uint8)


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _ade20k(split: str, number: int) -> Files:
    folder, short = {"train": ("training", "train"), "eval": ("validation", "val")}[split]
    stem = f"{folder}/ADE_{short}_{number:08d}"
    return f"images/{stem}.jpg", f"annotations/{stem}.png", None


def _bdd(split: str, number: int) -> Files:
    stem = f"{_short(split)}/7d06fefd-{number:08x}"
    return f"images/10k/{stem}.jpg", f"labels/sem_seg/masks/{stem}.png", None


def _camvid(split: str, number: int) -> Files:
    # The first of train are of three videos, the first and the last frame of each part among them.
    train = ("0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_07920", "0016E5_08190", "0016E5_00390")
    held = ("0016E5_07959", "0016E5_08159", "0016E5_08001", "0016E5_08099")
    names, spare = {"train": (train, "0016E5_0{:04d}"), "eval": (held, "0016E5_080{:02d}")}[split]
    place = number - _FIRST[split]
    stem = names[place] if place < len(names) else spare.format(place + 10)
    return f"701_StillsRaw_full/{stem}.png", f"LabeledApproved_full/{stem}_L.png", None


def _cityscapes(split: str, number: int) -> Files:
    stem = f"{_short(split)}/bonn/bonn_{number:06d}_000019"
    return f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png", None


def _coco(split: str, number: int) -> Files:
    folder = f"{_short(split)}2017"
    return f"{folder}/{number:012d}.jpg", f"annotations/panoptic_{folder}/{number:012d}.png", None


def _idd(split: str, number: int) -> Files:
    # Equal frame numbers in two drives.
    stem = f"{_short(split)}/{number % 2}/{number // 2:06d}"
    return f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelids.png", None


def _isaid(split: str, number: int) -> Files:
    stem = f"{_short(split)}/patches/P{number // 2:04d}" + ("_0_800_600_1400" if number % 2 else "")
    return f"{stem}.png", f"{stem}_instance_color_RGB.png", None


def _isprs(split: str, number: int) -> Files:
    folder, tile = {"train": ("potsdam", "top_potsdam_2_10"), "eval": ("vaihingen", "top_mosaic_09cm_area1")}[split]
    patch = f"{tile}_{number}_800_0_800.png"
    return f"patches/{folder}/top/{patch}", f"patches/{folder}/gt/{patch}", None


def _kitti(split: str, number: int) -> Files:
    image, label = (f"training/{kind}/{number:06d}_10.png" for kind in ("image_2", "semantic"))
    return image, label, f"{image} {label}"


def _mapillary(split: str, number: int) -> Files:
    folder = {"train": "training", "eval": "validation"}[split]
    return f"{folder}/images/a_{number:x}.jpg", f"{folder}/v1.2/labels/a_{number:x}.png", None


def _pascal_context(split: str, number: int) -> Files:
    stem = _VOC[split].format(number)
    return f"JPEGImages/{stem}.jpg", f"trainval/{stem}.mat", f"JPEGImages/{stem}.jpg Segmentation_GT_60cls/{stem}.png"


def _pascal_voc(split: str, number: int) -> Files:
    stem, folder = _VOC[split].format(number), {"train": "SegmentationClassAug", "eval": "SegmentationClass"}[split]
    return f"JPEGImages/{stem}.jpg", f"{folder}/{stem}.png", stem


def _scannet(split: str, number: int) -> Files:
    scene, frame = f"scene0568_{number % 2:02d}", f"{number // 2:04d}00"
    image, label = f"{scene}/color/{frame}.jpg", f"{scene}/label/{frame}.png"
    return image, label, f"{image} {label}"


def _suim(split: str, number: int) -> Files:
    folder = {"train": "train_val", "eval": "test"}[split]
    return f"{folder}/images/d_r_{number}_.jpg", f"{folder}/masks/d_r_{number}_.bmp", None


def _sun_rgbd(split: str, number: int) -> Files:
    folder = {"train": "train", "eval": "test"}[split]
    image, label = f"image/{folder}/img-{number:06d}.jpg", f"label38/{folder}/{number:08d}.png"
    return image, label, f"{image} {label}" if split == "eval" else None


def _vgallery(split: str, number: int) -> Files:
    sequence = {"train": f"training/gallery_light1_loop{number}", "eval": f"testing/gallery_light{number}_occlusion2"}
    frames = f"{sequence[split]}/frames"
    return f"{frames}/rgb/camera_0/rgb_00000.jpg", f"{frames}/classsegmentation/camera_0/classgt_00000.png", None


def _vkitti2(split: str, number: int) -> Files:
    # Equal frames of two cameras, and of two scenes in train.
    scene, frame = ("Scene18", number // 2) if split == "eval" else (f"Scene0{1 + number // 2 % 2}", number // 4)
    frames, camera, frame = f"{scene}/30-deg-left/frames", f"Camera_{number % 2}", f"{frame:05d}"
    return f"{frames}/rgb/{camera}/rgb_{frame}.jpg", f"{frames}/classSegmentation/{camera}/classgt_{frame}.png", None


def _short(split: str) -> str:
    return {"train": "train", "eval": "val"}[split]


_FILES: dict[str, Callable[[str, int], Files]] = {
    "ade20k": _ade20k,
    "bdd": _bdd,
    "camvid": _camvid,
    "cityscapes": _cityscapes,
    "coco": _coco,
    "idd": _idd,
    "isaid": _isaid,
    "isprs": _isprs,
    "kitti": _kitti,
    "mapillary": _mapillary,
    "pascal_context": _pascal_context,
    "pascal_voc": _pascal_voc,
    "scannet": _scannet,
    "suim": _suim,
    "sun_rgbd": _sun_rgbd,
    "vgallery": _vgallery,
    "vkitti2": _vkitti2,
}
NAMES = tuple(_FILES)
"""The seventeen datasets, called as in the published tables."""
