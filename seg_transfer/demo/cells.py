"""Cell cultures: cells, fibers and crystals in a medium, in bright field and in fluorescence microscopy."""

import numpy as np

from seg_transfer.demo.scene import Parts, Scene

LIGHT: Parts = {
    "medium": ("medium", (0.9, 0.85, 0.9)),
    "fibre": ("fibre", (0.9, 0.6, 0.7)),
    "membrane": ("membrane", (0.6, 0.4, 0.6)),
    "smooth": ("cytoplasm", (0.8, 0.6, 0.75)),
    "granular": ("cytoplasm", (0.75, 0.6, 0.8)),
    "nucleus": ("nucleus", (0.4, 0.2, 0.5)),
    "crystal": ("crystal", (0.5, 0.4, 0.3)),
}
DARK: Parts = {
    "medium": ("background", (0.1, 0.1, 0.2)),
    "crystal": ("background", (0.8, 0.5, 0.3)),
    "nucleus": ("nucleus", (0.4, 0.5, 0.9)),
    "smooth": ("smooth cell", (0.2, 0.5, 0.3)),
    "granular": ("granular cell", (0.25, 0.5, 0.35)),
    "membrane": ("rim", (0.3, 0.7, 0.4)),
    "fibre": ("fibre", (0.3, 0.5, 0.3)),
}


def draw_culture(scene: Scene) -> None:
    """Draw a cell culture."""
    height, width = scene.size
    medium = 0.7 * scene.noise(12, 12) + 0.3 * scene.noise(1, 1)
    scene.paint("medium", np.ones(scene.size, bool), medium, 0.2)
    for _ in range(scene.count(1, 2)):
        _draw_fiber(scene, scene.number(0.2, 0.8) * height, scene.number(0.2, 0.8) * width)
    for cell in range(6):
        row, col = (
            (cell // 3 + scene.number(0.2, 0.8)) * height / 2,
            (cell % 3 + scene.number(0.2, 0.8)) * width / 3,
        )
        _draw_cell(scene, ("smooth", "granular")[cell % 2], row, col, scene.pixels(11, 15))
    for _ in range(scene.count(3, 5)):
        _draw_crystal(scene, scene.number(0, height), scene.number(0, width), scene.pixels(4, 6))


def _draw_fiber(scene: Scene, row: float, col: float) -> None:
    slope, bend = scene.number(-1.5, 1.5), 16 * scene.unit * (scene.noise(20, 20) - 0.5)
    across = (scene.rows - row + slope * (scene.cols - col) + bend) / (scene.pixels(3, 5) * (1 + abs(slope)))
    scene.paint("fibre", np.abs(across) < 1, 0.5 + 0.5 * across, 0.6)


def _draw_cell(scene: Scene, kind: str, row: float, col: float, size: float) -> None:
    outline = scene.disc(row, col, size, size * scene.number(0.8, 1.25)) * (0.7 + 0.6 * scene.noise(6, 6))
    scene.paint("membrane", outline < 1, np.abs(outline - 0.8) / 0.2, 0.5)
    granules = scene.noise(1.5, 1.5) > 0.6
    scene.paint(kind, outline < 0.62, granules if kind == "granular" else 0.3 + 0.5 * outline, 0.6)
    row, col = row + scene.number(-0.15, 0.15) * size, col + scene.number(-0.15, 0.15) * size
    radius = scene.number(0.38, 0.48) * size
    nucleus = scene.disc(row, col, radius, radius)
    scene.paint("nucleus", nucleus < 1, np.where(nucleus < 0.2, 0.0, 1 - 0.4 * nucleus), 0.6)


def _draw_crystal(scene: Scene, row: float, col: float, size: float) -> None:
    facets = np.abs(scene.rows - row) + np.abs(scene.cols - col)
    scene.paint("crystal", facets < size, (scene.rows > row) ^ (scene.cols > col), 0.6)
