"""A small world of procedural scenes in which the right source for every target is known.

Two families of two domains: street scenes by day and at dusk, cells in bright field and in fluorescence. The domains of
a family share structures and textures (bricks, speckled crowns, wheels; membranes, granules, nuclei) under other light,
other palettes and other class lists. Colours are drawn anew for every object of every image, so that texture and shape
tell the classes and colour hardly does: what a network learns in one domain helps it in the other one of the family.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from seg_transfer.data.manifest import IGNORE
from seg_transfer.errors import ConfigError
from seg_transfer.store.atomic import write_text

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

LOW_SHOT = 12
SMALLEST = (48, 64)
STAMP = "world.json"
UNFINISHED = "world.unfinished.json"
VARIETY = 0.7  # share of an object's colour that is drawn anew; the rest is the palette's
VERSION = 1  # raise it whenever a pixel or a file of the world changes: it is in the stamp

Parts = Mapping[str, tuple[str, tuple[float, float, float]]]  # structure -> its class, its colour (RGB in [0, 1])


@dataclass(frozen=True, slots=True)
class Domain:
    """What sets a domain apart from the others; `draw`, which places the structures, is shared by its family."""

    title: str
    family: str
    draw: Callable[["_Scene"], None]
    parts: Parts
    light: tuple[float, float]  # range of an image's brightness
    grain: float  # amplitude of the sensor noise

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the label maps' indices."""
        return tuple(dict.fromkeys(name for name, _ in self.parts.values()))


def build_world(
    folder: Path,
    *,
    n_train: int = 24,
    n_source_train: int = 120,
    n_eval: int = 32,
    size: tuple[int, int] = (64, 96),
    seed: int = 0,
) -> list[Path]:
    """Write every domain's images, label maps and manifest below `folder`; return the paths of the manifests.

    ``<domain>/{train,source_train,eval}/{images,labels}/*.png`` and ``manifests/<domain>.yaml``, whose data root is
    `folder`; `size` is (height, width) in pixels. Nothing is written if this world is there already: ``world.json``
    holds its settings and comes last. ConfigError if a setting is too small, or the folder holds another world.
    """
    counts = {"train": n_train, "source_train": n_source_train, "eval": n_eval}
    _check_settings(counts, size)
    settings = json.dumps({"version": VERSION, "images": counts, "size": size, "seed": seed})
    manifests = [folder / "manifests" / f"{name}.yaml" for name in DOMAINS]
    if not _claim(folder, settings):
        for name, manifest in zip(DOMAINS, manifests, strict=True):
            _write_domain(folder / name, manifest, counts, size, seed)
        write_text(folder / STAMP, settings)
        (folder / UNFINISHED).unlink(missing_ok=True)
    return manifests


def _check_settings(counts: Mapping[str, int], size: tuple[int, int]) -> None:
    for split, count in counts.items():
        if count < 1:
            raise ConfigError(f"n_{split}: {count}: a world needs at least 1 image of every split; raise it")
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise ConfigError(f"size: {size}: (height, width) must be at least {SMALLEST} to show everything; raise it")


def _claim(folder: Path, settings: str) -> bool:
    """Whether the world is finished; if not, its settings are noted first, so that no other world mixes with it."""
    for name in (STAMP, UNFINISHED):
        stamp = folder / name
        if stamp.exists() and (found := stamp.read_text("utf-8", "replace")) != settings:
            raise ConfigError(f"{stamp}: {found!r}: another world than {settings}; choose another folder")
    if (folder / STAMP).exists():
        return True
    write_text(folder / UNFINISHED, settings)
    return False


def _write_domain(root: Path, manifest: Path, counts: Mapping[str, int], size: tuple[int, int], seed: int) -> None:
    train = []
    for split, count in counts.items():
        for index in range(count):
            image, label = render(root.name, split, index, size=size, seed=seed)
            _save(image, root / split / "images" / f"{split}_{index:04d}.png")
            _save(label, root / split / "labels" / f"{split}_{index:04d}.png")
            if split == "train":
                train.append(image)
    write_text(manifest, _manifest(root.name, counts, size, np.stack(train)))


def _manifest(name: str, counts: Mapping[str, int], size: tuple[int, int], train: Bytes) -> str:
    domain, pixels = DOMAINS[name], train.reshape(-1, 3).astype(np.int64)
    mean = pixels.sum(axis=0) / len(pixels)
    variance = (pixels * pixels).sum(axis=0) / len(pixels) - mean * mean
    fields = {
        "name": name,
        "title": domain.title,
        "domain": domain.family,
        "classes": list(domain.classes),
        "labels": {"encoding": "id", "ignore": [IGNORE]},
        "root": name,
        **{split: {"images": [f"{split}/images/*.png"], "labels": [f"{split}/labels/*.png"]} for split in counts},
        "low_shot": {"limit": LOW_SHOT, "seed": 0},
        "mean": [round(float(value) / 255, 4) for value in mean],
        "std": [round(math.sqrt(value) / 255, 4) for value in variance],
        "crop_size": list(size),
        "licence": "generated",
        "citation": "none",
    }
    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=120)


def _save(pixels: Bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")  # no reader meets half a file
    Image.fromarray(pixels).save(partial, "PNG")
    partial.replace(path)


def render(domain: str, split: str, index: int, *, size: tuple[int, int], seed: int = 0) -> tuple[Bytes, Bytes]:
    """Render one scene: an RGB image (H, W, 3) and its label map (H, W), class indices or 255 where unlabelled.

    The scene depends on the arguments alone, not on other scenes, and is the same on every platform: the raw numbers of
    a counter-based generator and elementwise + - * / are exact, what libm computes is not.

    >>> image, label = render("cells_dark", "eval", 3, size=(64, 96))
    >>> image.shape, label.shape, int(label[label < 255].max()) < len(DOMAINS["cells_dark"].classes)
    ((64, 96, 3), (64, 96), True)
    """
    scene = _Scene(_stream(seed, domain, split, index), DOMAINS[domain], size)
    scene.domain.draw(scene)
    return _expose(scene), _label(scene)


def _stream(*key: object) -> np.random.Philox:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


class _Scene:
    """A canvas that objects are painted on, the farthest first, and the random numbers that shape them."""

    def __init__(self, stream: np.random.Philox, domain: Domain, size: tuple[int, int]) -> None:
        self.stream = stream
        self.domain = domain
        self.size = size
        self.unit = min(size[0] / 64, size[1] / 96)
        self.rows, self.cols = (axis.astype(np.float64) for axis in np.ogrid[: size[0], : size[1]])
        self.image = np.zeros((*size, 3))
        self.classes: Bytes = np.zeros(size, np.uint8)

    def draw(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        # NumPy promises the raw stream across versions, a Generator's methods not.
        raw = self.stream.random_raw(math.prod(shape)) >> np.uint64(11)
        uniform: Array = np.asarray(raw, np.float64).reshape(shape) * 2.0**-53
        return low + (high - low) * uniform

    def number(self, low: float, high: float) -> float:
        return float(self.draw(low, high, (1,))[0])

    def pixels(self, low: float, high: float) -> float:
        """A random length, given in pixels of a 64 x 96 image."""
        return self.number(low, high) * self.unit

    def count(self, low: int, high: int) -> int:
        return int(self.number(low, high + 1))

    def noise(self, height: float, width: float) -> Array:
        """Value noise in [0, 1] (H, W): random numbers on a lattice of height x width units, interpolated between."""
        y, x = self.rows[:, 0] / (height * self.unit), self.cols[0] / (width * self.unit)
        i, j = y.astype(np.int64), x.astype(np.int64)
        lattice = self.draw(0, 1, (int(i[-1]) + 2, int(j[-1]) + 2))
        v, u = (y - i)[:, None], x - j
        lines: Array = lattice[i] * (1 - v) + lattice[i + 1] * v
        smooth: Array = lines[:, j] * (1 - u) + lines[:, j + 1] * u
        return smooth

    def disc(self, row: float, col: float, height: float, width: float) -> Array:
        """Squared distance from (row, col) in units of the half axes: an ellipse is where it is below 1."""
        down, right = (self.rows - row) / height, (self.cols - col) / width
        return down * down + right * right

    def box(self, top: float, bottom: float, left: float, right: float) -> Mask:
        return (self.rows >= top) & (self.rows < bottom) & (self.cols >= left) & (self.cols < right)

    def paint(self, structure: str, mask: Mask, shade: Array | Mask, contrast: float) -> None:
        """Fill `mask` with a structure in a fresh colour; `shade` in [0, 1] is its texture, dark or bright first."""
        name, tone = self.domain.parts[structure]
        base = (1 - VARIETY) * np.array(tone) + VARIETY * self.draw(0, 1, (3,))
        swing = self.draw(-0.1, 0.1, (3,)) + (contrast if self.number(0, 1) < 0.5 else -contrast)
        texture: Array = np.broadcast_to(shade, self.size)[mask].astype(np.float64)
        self.image[mask] = base + swing * (texture[:, None] - 0.5)
        self.classes[mask] = self.domain.classes.index(name)


def _expose(scene: _Scene) -> Bytes:
    (height, width), (dark, bright) = scene.size, scene.domain.light
    down, right = scene.number(-0.3, 0.3), scene.number(-0.3, 0.3)
    ramp = 1 + down * (scene.rows / height - 0.5) + right * (scene.cols / width - 0.5)
    lit = scene.image * (scene.number(dark, bright) * scene.draw(0.8, 1.2, (3,))) * ramp[:, :, None]
    first, second = scene.draw(-1, 1, (2, height, width, 3))
    exposed: Array = np.clip(lit + (first + second) * scene.domain.grain, 0, 1)
    return np.floor(exposed * 255 + 0.5).astype(np.uint8)


def _label(scene: _Scene) -> Bytes:
    label: Bytes = scene.classes.copy()
    for _ in range(3):
        row, col = scene.number(0, scene.size[0]), scene.number(0, scene.size[1])
        label[scene.disc(row, col, 2 * scene.unit, 2 * scene.unit) < 1] = IGNORE
    label[[0, -1]] = IGNORE
    label[:, [0, -1]] = IGNORE
    return label


def _draw_street(scene: _Scene) -> None:
    height, width = scene.size
    horizon = scene.number(0.4, 0.55) * height
    gradient = 0.8 * scene.rows / horizon - 0.1 + 0.4 * scene.noise(8, 20)
    scene.paint("sky", np.ones(scene.size, bool), gradient, 0.3)
    left = scene.pixels(-10, 5)
    while left < width:
        right = left + scene.pixels(18, 34)
        _draw_building(scene, scene.number(0.05, 0.6) * horizon, horizon, left, right)
        left = right + max(0.0, scene.pixels(-10, 14))
    slab = 3 * scene.unit
    slabs = (np.floor(scene.rows / slab) + np.floor(scene.cols / slab)) % 2
    scene.paint("pavement", scene.box(horizon, height, 0, width), slabs, 0.3)
    for _ in range(scene.count(2, 4)):
        _draw_tree(scene, horizon - scene.pixels(0, 10), scene.number(0, width))
    _draw_road(scene, horizon)
    for _ in range(scene.count(1, 2)):
        _draw_sign(scene, horizon - scene.pixels(-4, 12), scene.number(0.05, 0.95) * width)
    for near in sorted(scene.draw(0, 1, (2,)).tolist()):
        _draw_vehicle(scene, horizon + (6 + 22 * near) * scene.unit, scene.number(0.1, 0.9) * width, 0.7 + 0.7 * near)


def _draw_building(scene: _Scene, top: float, bottom: float, left: float, right: float) -> None:
    course, length, pitch = 4 * scene.unit, 8 * scene.unit, scene.pixels(10, 13)
    stagger = np.floor(scene.rows / course) % 2 * length / 2
    mortar = (scene.rows % course < scene.unit) | ((scene.cols + stagger) % length < scene.unit)
    bricks = np.where(mortar, 0.0, 0.75) + 0.25 * scene.noise(2, 2)
    scene.paint("wall", scene.box(top, bottom, left, right), bricks, 0.4)
    down, along = (scene.rows - top) % pitch, (scene.cols - left) % pitch
    panes = (down > 0.4 * pitch) & (along > 0.4 * pitch) & scene.box(top, bottom - 2 * scene.unit, left, right)
    scene.paint("window", panes, np.abs(along - 0.7 * pitch) + 0 * down > 0.6 * scene.unit, 0.5)


def _draw_tree(scene: _Scene, row: float, col: float) -> None:
    size = scene.pixels(8, 14)
    outline = scene.disc(row, col, size, size * scene.number(0.7, 1.3)) * (0.6 + 0.8 * scene.noise(5, 5))
    trunk = scene.box(row, row + 1.5 * size, col - scene.unit, col + scene.unit)
    scene.paint("crown", (outline < 1) | trunk, 1.5 * scene.noise(1.3, 1.3) - 0.25, 0.6)


def _draw_road(scene: _Scene, horizon: float) -> None:
    height, width = scene.size
    depth = np.maximum((scene.rows - horizon) / (height - horizon), 0.0)
    middle = width * (scene.number(0.35, 0.65) + scene.number(-0.25, 0.25) * depth)
    across = np.abs(scene.cols - middle) / (width * (0.15 + scene.number(0.35, 0.6) * depth))
    road = (scene.rows >= horizon) & (across < 1)
    scene.paint("road", road, scene.noise(1, 5), 0.3)
    dashes = (3 / (depth + 0.25) + scene.number(0, 1)) % 1 < 0.65
    lines = ((across < 0.1) & dashes) | (np.abs(across - 0.85) < 0.08)
    scene.paint("line", road & lines, scene.noise(2, 2), 0.2)


def _draw_sign(scene: _Scene, row: float, col: float) -> None:
    size = scene.pixels(5, 7)
    plate = scene.disc(row, col, size, size)
    pole = scene.box(row, row + 20 * scene.unit, col - 1.2 * scene.unit, col + 1.2 * scene.unit)
    scene.paint("sign", (plate < 1) | pole, (plate > 0.45) & (plate < 1), 0.7)


def _draw_vehicle(scene: _Scene, row: float, col: float, scale: float) -> None:
    length, height, radius = scale * scene.pixels(11, 15), scale * scene.pixels(4.5, 6), 3 * scale * scene.unit
    hull = scene.box(row - height, row, col - length, col + length)
    cabin = scene.box(row - 2 * height, row - height, col - 0.6 * length, col + 0.6 * length)
    shine = (row - scene.rows) / (2 * height)
    scene.paint("body", hull | cabin, np.where(np.abs(shine - 0.7) < 0.14, 0.0, shine), 0.6)
    for side in (-0.6, 0.6):
        wheel = scene.disc(row, col + side * length, radius, radius)
        scene.paint("wheel", wheel < 1, wheel < 0.3, 0.6)


def _draw_culture(scene: _Scene) -> None:
    height, width = scene.size
    medium = 0.7 * scene.noise(12, 12) + 0.3 * scene.noise(1, 1)
    scene.paint("medium", np.ones(scene.size, bool), medium, 0.2)
    for _ in range(scene.count(1, 2)):
        _draw_fibre(scene, scene.number(0.2, 0.8) * height, scene.number(0.2, 0.8) * width)
    for place in range(6):
        row, col = (place // 3 + scene.number(0.2, 0.8)) * height / 2, (place % 3 + scene.number(0.2, 0.8)) * width / 3
        _draw_cell(scene, ("smooth", "granular")[place % 2], row, col, scene.pixels(11, 15))
    for _ in range(scene.count(3, 5)):
        _draw_crystal(scene, scene.number(0, height), scene.number(0, width), scene.pixels(4, 6))


def _draw_fibre(scene: _Scene, row: float, col: float) -> None:
    slope, bend = scene.number(-1.5, 1.5), 16 * scene.unit * (scene.noise(20, 20) - 0.5)
    across = (scene.rows - row + slope * (scene.cols - col) + bend) / (scene.pixels(3, 5) * (1 + abs(slope)))
    scene.paint("fibre", np.abs(across) < 1, 0.5 + 0.5 * across, 0.6)


def _draw_cell(scene: _Scene, kind: str, row: float, col: float, size: float) -> None:
    outline = scene.disc(row, col, size, size * scene.number(0.8, 1.25)) * (0.7 + 0.6 * scene.noise(6, 6))
    scene.paint("membrane", outline < 1, np.abs(outline - 0.8) / 0.2, 0.5)
    granules = scene.noise(1.5, 1.5) > 0.6
    scene.paint(kind, outline < 0.62, granules if kind == "granular" else 0.3 + 0.5 * outline, 0.6)
    row, col = row + scene.number(-0.15, 0.15) * size, col + scene.number(-0.15, 0.15) * size
    radius = scene.number(0.38, 0.48) * size
    nucleus = scene.disc(row, col, radius, radius)
    scene.paint("nucleus", nucleus < 1, np.where(nucleus < 0.2, 0.0, 1 - 0.4 * nucleus), 0.6)


def _draw_crystal(scene: _Scene, row: float, col: float, size: float) -> None:
    facets = np.abs(scene.rows - row) + np.abs(scene.cols - col)
    scene.paint("crystal", facets < size, (scene.rows > row) ^ (scene.cols > col), 0.6)


_DAY: Parts = {
    "sky": ("sky", (0.6, 0.75, 0.95)),
    "wall": ("building", (0.7, 0.5, 0.4)),
    "window": ("building", (0.3, 0.35, 0.45)),
    "crown": ("vegetation", (0.3, 0.6, 0.25)),
    "pavement": ("pavement", (0.65, 0.6, 0.6)),
    "road": ("road", (0.45, 0.45, 0.45)),
    "line": ("marking", (0.95, 0.95, 0.9)),
    "body": ("vehicle", (0.6, 0.3, 0.3)),
    "wheel": ("vehicle", (0.15, 0.15, 0.15)),
    "sign": ("sign", (0.8, 0.6, 0.2)),
}
_DUSK: Parts = {
    "road": ("carriageway", (0.25, 0.25, 0.35)),
    "line": ("carriageway", (0.7, 0.7, 0.6)),
    "pavement": ("pavement", (0.4, 0.35, 0.4)),
    "wall": ("wall", (0.3, 0.3, 0.5)),
    "window": ("window", (1.0, 0.85, 0.5)),
    "crown": ("tree", (0.2, 0.3, 0.35)),
    "body": ("car", (0.3, 0.4, 0.6)),
    "wheel": ("car", (0.1, 0.1, 0.15)),
    "sign": ("sign", (0.6, 0.8, 0.7)),
    "sky": ("sky", (0.5, 0.3, 0.5)),
}
_LIGHT: Parts = {
    "medium": ("medium", (0.9, 0.85, 0.9)),
    "fibre": ("fibre", (0.9, 0.6, 0.7)),
    "membrane": ("membrane", (0.6, 0.4, 0.6)),
    "smooth": ("cytoplasm", (0.8, 0.6, 0.75)),
    "granular": ("cytoplasm", (0.75, 0.6, 0.8)),
    "nucleus": ("nucleus", (0.4, 0.2, 0.5)),
    "crystal": ("crystal", (0.5, 0.4, 0.3)),
}
_DARK: Parts = {
    "medium": ("background", (0.1, 0.1, 0.2)),
    "crystal": ("background", (0.8, 0.5, 0.3)),
    "nucleus": ("nucleus", (0.4, 0.5, 0.9)),
    "smooth": ("smooth cell", (0.2, 0.5, 0.3)),
    "granular": ("granular cell", (0.25, 0.5, 0.35)),
    "membrane": ("rim", (0.3, 0.7, 0.4)),
    "fibre": ("fibre", (0.3, 0.5, 0.3)),
}

DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "day_street": Domain("Street scenes by day", "street", _draw_street, _DAY, light=(0.8, 1.1), grain=0.03),
        "dusk_street": Domain("Street scenes at dusk", "street", _draw_street, _DUSK, light=(0.4, 0.7), grain=0.05),
        "cells_light": Domain("Cells in bright field", "cells", _draw_culture, _LIGHT, light=(0.8, 1.1), grain=0.03),
        "cells_dark": Domain("Cells in fluorescence", "cells", _draw_culture, _DARK, light=(0.5, 0.8), grain=0.05),
    }
)
