"""Count what `rank` does with a large folder of images and masks until its first model sees the first image.

The folders hold synthetic scenes of 1024 x 2048 pixels: hard links to a few distinct files, so that 20,000 pairs take
little space. The result is CPU seconds of all threads, and how many masks and images were opened.

Example: python scripts/benchmark_inspection.py --n-masks 20000
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn

from seg_transfer.models.checkpoints import save_weights
from seg_transfer.models.source_model import SourceModel
from seg_transfer.selection.rank import rank_sources

HEIGHT, WIDTH = 1024, 2048
N_CLASSES = 19
NETWORK = """
from torch import nn


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.Conv2d(8, 4, 1))
"""


class _FirstForward(BaseException):
    """Ends `rank` where its first forward pass would begin; no `except Exception` stops it."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        _write_pairs(folder, options.n_masks, options.distinct)
        source = _write_source(folder)
        opened = _count_opened_files(folder)
        cpu, wall = time.process_time(), time.perf_counter()
        if not _rank_until_first_forward(folder, source):
            sys.exit("rank ended before a forward pass")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"{options.n_masks} masks of {HEIGHT} x {WIDTH}: the first forward pass begins after {cpu:.1f} CPU seconds "
        f"({wall:.1f} s); {len(opened['labels'])} masks opened {sum(opened['labels'].values())} times, "
        f"{len(opened['images'])} images opened {sum(opened['images'].values())} times"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-masks", type=int, default=20_000, help="number of pairs; 20000 by default")
    parser.add_argument("--distinct", type=int, default=16, help="number of distinct pairs; 16 by default")
    parser.add_argument("--folder", type=Path, help="where to write, on a disk that has hard links")
    return parser.parse_args(arguments)


def _write_pairs(folder: Path, n_pairs: int, n_distinct: int) -> None:
    """Write distinct pairs into ``stored``, and links to them as frames of several cities."""
    for number in range(min(n_distinct, n_pairs)):
        image, label = _scene(number)
        for kind, pixels in (("images", image), ("labels", label)):
            (folder / "stored").mkdir(exist_ok=True)
            pixels.save(folder / "stored" / f"{kind}{number}{_suffix(kind)}", quality=90)
    for number in range(n_pairs):
        for kind in ("images", "labels"):
            link = folder / kind / f"city{number % 20:02d}" / f"{number:06d}{_suffix(kind)}"
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / "stored" / f"{kind}{number % n_distinct}{_suffix(kind)}", link)


def _suffix(kind: str) -> str:
    return ".jpg" if kind == "images" else ".png"


def _scene(seed: int) -> tuple[Image.Image, Image.Image]:
    """Draw a mask of large and small blobs with 255 at some places, and an image that is colored accordingly."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((16, 32, N_CLASSES)).argmax(-1)
    fine = generator.random((64, 128)) < 0.05
    label = coarse.repeat(4, 0).repeat(4, 1)
    label[fine] = generator.integers(0, N_CLASSES, int(fine.sum()))
    label[generator.random(label.shape) < 0.02] = 255
    label = label.repeat(HEIGHT // 64, 0).repeat(WIDTH // 128, 1).astype(np.uint8)
    palette = np.random.default_rng(0).integers(40, 216, (256, 3))
    noise = generator.normal(scale=12, size=(HEIGHT // 4, WIDTH // 4, 3)).repeat(4, 0).repeat(4, 1)
    image = (palette[label] + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(image), Image.fromarray(label)


def _write_source(folder: Path) -> dict[str, Any]:
    """Write a tiny network as a source; returns its entry."""
    (folder / "tiny_network.py").write_text(NETWORK)
    torch.manual_seed(0)
    save_weights(
        nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.Conv2d(8, 4, 1)).state_dict(), folder / "tiny.safetensors"
    )
    return {
        "name": "tiny",
        "dataset": "elsewhere",
        "factory": "tiny_network:network",
        "factory_folder": str(folder),
        "classifier": "1",
        "weights": str(folder / "tiny.safetensors"),
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
    }


def _count_opened_files(folder: Path) -> dict[str, defaultdict[str, int]]:
    """Count, from now on, how often Python opens each file of the two folders."""
    opened: dict[str, defaultdict[str, int]] = {kind: defaultdict(int) for kind in ("images", "labels")}
    prefixes = {kind: f"{(folder / kind).resolve()}{os.sep}" for kind in opened}

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100
            for kind, prefix in prefixes.items():
                if path.startswith(prefix):
                    opened[kind][path] += 1

    sys.addaudithook(count)
    return opened


def _rank_until_first_forward(folder: Path, source: dict[str, Any]) -> bool:
    """Rank as the command does; returns whether a forward pass would have begun."""

    def stop(*_: object, **__: object) -> NoReturn:
        raise _FirstForward

    target = {"images": folder / "images", "labels": folder / "labels"}
    try:
        with mock.patch.object(SourceModel, "feature_maps", stop):
            rank_sources(target, [source], run_folder=folder / "run", device="cpu")
    except _FirstForward:
        return True
    return False


if __name__ == "__main__":
    main()
