"""Street scenes: buildings, trees, a road, signs and vehicles, by day and at dusk."""

import numpy as np

from seg_transfer.demo.scene import Parts, Scene

DAY: Parts = {
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
DUSK: Parts = {
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


def draw_street(scene: Scene) -> None:
    """Draw a street scene."""
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


def _draw_building(scene: Scene, top: float, bottom: float, left: float, right: float) -> None:
    course, length, pitch = 4 * scene.unit, 8 * scene.unit, scene.pixels(10, 13)
    stagger = np.floor(scene.rows / course) % 2 * length / 2
    mortar = (scene.rows % course < scene.unit) | ((scene.cols + stagger) % length < scene.unit)
    bricks = np.where(mortar, 0.0, 0.75) + 0.25 * scene.noise(2, 2)
    scene.paint("wall", scene.box(top, bottom, left, right), bricks, 0.4)
    down, along = (scene.rows - top) % pitch, (scene.cols - left) % pitch
    panes = (down > 0.4 * pitch) & (along > 0.4 * pitch) & scene.box(top, bottom - 2 * scene.unit, left, right)
    scene.paint("window", panes, np.abs(along - 0.7 * pitch) + 0 * down > 0.6 * scene.unit, 0.5)


def _draw_tree(scene: Scene, row: float, col: float) -> None:
    size = scene.pixels(8, 14)
    outline = scene.disc(row, col, size, size * scene.number(0.7, 1.3)) * (0.6 + 0.8 * scene.noise(5, 5))
    trunk = scene.box(row, row + 1.5 * size, col - scene.unit, col + scene.unit)
    scene.paint("crown", (outline < 1) | trunk, 1.5 * scene.noise(1.3, 1.3) - 0.25, 0.6)


def _draw_road(scene: Scene, horizon: float) -> None:
    height, width = scene.size
    depth = np.maximum((scene.rows - horizon) / (height - horizon), 0.0)
    middle = width * (scene.number(0.35, 0.65) + scene.number(-0.25, 0.25) * depth)
    across = np.abs(scene.cols - middle) / (width * (0.15 + scene.number(0.35, 0.6) * depth))
    road = (scene.rows >= horizon) & (across < 1)
    scene.paint("road", road, scene.noise(1, 5), 0.3)
    dashes = (3 / (depth + 0.25) + scene.number(0, 1)) % 1 < 0.65
    lines = ((across < 0.1) & dashes) | (np.abs(across - 0.85) < 0.08)
    scene.paint("line", road & lines, scene.noise(2, 2), 0.2)


def _draw_sign(scene: Scene, row: float, col: float) -> None:
    size = scene.pixels(5, 7)
    plate = scene.disc(row, col, size, size)
    pole = scene.box(row, row + 20 * scene.unit, col - 1.2 * scene.unit, col + 1.2 * scene.unit)
    scene.paint("sign", (plate < 1) | pole, (plate > 0.45) & (plate < 1), 0.7)


def _draw_vehicle(scene: Scene, row: float, col: float, scale: float) -> None:
    length, height, radius = scale * scene.pixels(11, 15), scale * scene.pixels(4.5, 6), 3 * scale * scene.unit
    hull = scene.box(row - height, row, col - length, col + length)
    cabin = scene.box(row - 2 * height, row - height, col - 0.6 * length, col + 0.6 * length)
    shine = (row - scene.rows) / (2 * height)
    scene.paint("body", hull | cabin, np.where(np.abs(shine - 0.7) < 0.14, 0.0, shine), 0.6)
    for side in (-0.6, 0.6):
        wheel = scene.disc(row, col + side * length, radius, radius)
        scene.paint("wheel", wheel < 1, wheel < 0.3, 0.6)
