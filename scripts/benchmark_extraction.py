"""Compare the CPU time of extracting observations with that of bare forward passes over the same images.

Extraction decodes, resizes and normalizes every image, runs the network, and reads 1000 pixels from its maps. The bare
forward passes run the network's own forward, and nothing else, on the same images, decoded and normalized in advance.
Features are read at the input of the last layer, again from images decoded in advance, as for every further source of
a target, and from all stages. All are measured alternately in this
process, in CPU seconds of all its threads; a ratio compares two measurements of one round.

Example: python scripts/benchmark_extraction.py --images 16 --size 256 --threads 1
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seg_transfer.data.images import read_image, resize_to_short_side
from seg_transfer.data.record import Record
from seg_transfer.features.extract import extract
from seg_transfer.features.images import TargetImages
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.outputs import run_network
from seg_transfer.models.reading import with_features
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import PixelSample
from seg_transfer.resources import shipped
from seg_transfer.study.bank import read_sources

HEIGHT, WIDTH = 480, 640
PIXELS_PER_IMAGE = 1000
_BARE = "bare forward"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    source = _source(options)
    stages = with_features(source, "stages")
    with tempfile.TemporaryDirectory() as folder:
        records = written_images(Path(folder), options.images)
        batches = list(_target_images(records, options))
        decoded = [torch.from_numpy(batch.pixels) for batch in batches]
        normalized = [_normalized(source, pixels) for pixels in decoded]
        raw = [read_image(record) for record in records]
        sample = drawn_sample(records)
        works: dict[str, Callable[[], object]] = {
            _BARE: lambda: [run_network(source.network, images) for images in normalized],
            "extraction": lambda: extract(source, _target_images(records, options), sample),
            "decoded": lambda: extract(source, batches, sample),
            "all stages": lambda: extract(stages, _target_images(records, options), sample),
            "decode": lambda: [read_image(record) for record in records],
            "resize": lambda: [resize_to_short_side(image, options.size) for image in raw],
            "normalize": lambda: [_normalized(source, pixels) for pixels in decoded],
        }
        seconds = dict(zip(works, _time_alternately(list(works.values()), options.repeats), strict=True))
    of_source = dict.fromkeys(("extraction", "decoded"), source.n_features)
    _report(options, seconds, {**of_source, "all stages": stages.n_features})


def _normalized(source: SourceModel, pixels: Tensor) -> Tensor:
    return source.normalize(pixels, source.normalization.mean, source.normalization.std)


def _source(options: argparse.Namespace) -> SourceModel:
    if options.source is not None:
        (entry,), _ = read_sources(options.source)
        return entry.local().load()
    model = with_classes(read_model_config(options.config), 19)
    return load_source_model(with_normalization(model, (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = shipped("configs/models/hrnetv2_w18_small.py")
    parser.add_argument("--config", type=Path, default=default, help="mmseg model config (HRNetV2-W18-small)")
    parser.add_argument(
        "--source", metavar="MODEL", help="a source.json or another model with its weights, in place of it"
    )
    parser.add_argument("--images", type=_positive, default=12, metavar="N", help="number of images (12)")
    parser.add_argument("--size", type=_positive, default=512, metavar="SHORT_SIDE", help="shorter side, pixels (512)")
    parser.add_argument("--batch-size", type=_positive, default=1, metavar="N", help="images per forward pass (1)")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of PyTorch (PyTorch's default)")
    parser.add_argument("--repeats", type=_positive, default=5, metavar="N", help="measurements of each kind (5)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return int(text)


def written_images(folder: Path, count: int) -> list[Record]:
    """Write JPEG images of coarse shapes with fine noise, which compress about as well as photographs."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float64)
        noisy = smooth + generator.normal(scale=12, size=smooth.shape)
        file = folder / f"{number:04d}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
        records.append(Record(file.stem, file, file))
    return records


def _target_images(records: Sequence[Record], options: argparse.Namespace) -> TargetImages:
    return TargetImages(records, options.size, batch_size=options.batch_size)


def drawn_sample(records: Sequence[Record]) -> PixelSample:
    generator = np.random.default_rng(1)
    n_images = len(records)
    n_pixels = n_images * PIXELS_PER_IMAGE
    return PixelSample(
        image_ids=tuple(record.image_id for record in records),
        image_sizes=np.full((n_images, 2), (HEIGHT, WIDTH), np.int32),
        image_index=np.repeat(np.arange(n_images, dtype=np.int32), PIXELS_PER_IMAGE),
        rows=generator.integers(0, HEIGHT, n_pixels, np.int32),
        columns=generator.integers(0, WIDTH, n_pixels, np.int32),
        labels=np.arange(n_pixels) % 2,
    )


def _time_alternately(works: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Measure the CPU seconds of each function `repeats` times, alternately, so that noise reaches all equally."""
    seconds: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, times in zip(works, seconds, strict=True):
            began = time.process_time()
            work()
            if repeat:  # the first round warms up
                times.append(time.process_time() - began)
    return seconds


def _report(options: argparse.Namespace, seconds: Mapping[str, Sequence[float]], n_features: Mapping[str, int]) -> None:
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
    print(
        f"{options.source or Path(options.config).name}: {options.images} images of {HEIGHT} x {WIDTH}, shorter side "
        f"{options.size}, batch size {options.batch_size}, {torch.get_num_threads()} thread(s), "
        f"{options.repeats} repeats; CPU time"
    )
    for name, measured in seconds.items():
        milliseconds = [1000 * value / options.images for value in measured]
        print(f"{name:>12}: {spread(milliseconds, '.2f')} ms per image")
        if name in n_features:
            ratios = [value / bare for value, bare in zip(measured, seconds[_BARE], strict=True)]
            print(f"{'ratio':>12}: {spread(ratios, '.3f')} over {_BARE}; {n_features[name]} features per pixel")
    print(f" peak memory: {peak:.2f} GiB")


def spread(values: Sequence[float], form: str) -> str:
    """Write the median, and the lower and the upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
