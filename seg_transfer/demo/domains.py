"""The four domains of the demo world, and the rendering of their scenes.

There are two families of two domains: street scenes by day and at dusk, and cells in bright field and in fluorescence.
The domains of a family share structures and textures (bricks, speckled crowns, wheels; membranes, granules, nuclei) but
differ in light, palettes and class lists. Every object in every image has a random color, so texture and shape identify
the classes, while color hardly does. What a network learns in one domain helps in the other domain of the family.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from seg_transfer.data.fields import IGNORE
from seg_transfer.demo.cells import DARK, LIGHT, draw_culture
from seg_transfer.demo.scene import Array, Bytes, Domain, Scene, random_stream
from seg_transfer.demo.street import DAY, DUSK, draw_street

DOMAINS: Mapping[str, Domain] = MappingProxyType(
    {
        "day_street": Domain("Street scenes by day", "street", draw_street, DAY, light=(0.8, 1.1), grain=0.03),
        "dusk_street": Domain("Street scenes at dusk", "street", draw_street, DUSK, light=(0.4, 0.7), grain=0.05),
        "cells_light": Domain("Cells in bright field", "cells", draw_culture, LIGHT, light=(0.8, 1.1), grain=0.03),
        "cells_dark": Domain("Cells in fluorescence", "cells", draw_culture, DARK, light=(0.5, 0.8), grain=0.05),
    }
)


def render(domain: str, split: str, index: int, *, size: tuple[int, int], seed: int = 0) -> tuple[Bytes, Bytes]:
    """Render one scene.

    The scene depends only on the arguments and is the same on every platform, because the raw numbers of a
    counter-based generator and elementwise + - * / are exact, unlike the functions of libm.

    Args:
        domain: Name of the domain.
        split: Name of the split.
        index: Number of the scene.
        size: (height, width), in pixels.
        seed: Seed of the world.

    Returns:
        RGB image, (H, W, 3), and label map, (H, W): class indices, 255 where unlabeled.

    Example:
        >>> image, label = render("cells_dark", "eval", 3, size=(64, 96))
        >>> image.shape, label.shape, int(label[label < 255].max()) < len(DOMAINS["cells_dark"].classes)
        ((64, 96, 3), (64, 96), True)
    """
    scene = Scene(random_stream(seed, domain, split, index), DOMAINS[domain], size)
    scene.domain.draw(scene)
    return _expose(scene), _label(scene)


def _expose(scene: Scene) -> Bytes:
    (height, width), (dark, bright) = scene.size, scene.domain.light
    down, right = scene.number(-0.3, 0.3), scene.number(-0.3, 0.3)
    ramp = 1 + down * (scene.rows / height - 0.5) + right * (scene.cols / width - 0.5)
    lit = scene.image * (scene.number(dark, bright) * scene.draw(0.8, 1.2, (3,))) * ramp[:, :, None]
    first, second = scene.draw(-1, 1, (2, height, width, 3))
    exposed: Array = np.clip(lit + (first + second) * scene.domain.grain, 0, 1)
    return np.floor(exposed * 255 + 0.5).astype(np.uint8)


def _label(scene: Scene) -> Bytes:
    label: Bytes = scene.classes.copy()
    for _ in range(3):
        row, col = scene.number(0, scene.size[0]), scene.number(0, scene.size[1])
        label[scene.disc(row, col, 2 * scene.unit, 2 * scene.unit) < 1] = IGNORE
    label[[0, -1]] = IGNORE
    label[:, [0, -1]] = IGNORE
    return label
