"""Networks on a device: forward passes, and extraction from files and from decoded images over bare forward passes."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import torch
from benchmark_extraction import HEIGHT, WIDTH, drawn_sample, written_images
from benchmark_gpu_metrics import seconds
from torch import Tensor

from seg_transfer.errors import ConfigError
from seg_transfer.features.extract import extract_readings
from seg_transfer.features.images import TargetImages
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.devices import Precision, decoding_threads, require_precision
from seg_transfer.models.loading import load_source_model
from seg_transfer.models.outputs import run_network
from seg_transfer.models.source_model import SourceModel, device_of
from seg_transfer.resources import shipped

Works = Mapping[str, Callable[[], object]]
BARE, FILES, DECODED = "bare forward", "from files", "decoded before"


def random_source(config: str, device: str) -> SourceModel:
    """Load a shipped model config with random weights and 19 classes, on a device."""
    model = with_classes(read_model_config(shipped(f"configs/models/{config}.py")), 19)
    return load_source_model(with_normalization(model, (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)), device=device)


def precisions(device: str) -> list[Precision]:
    """List the precisions of features to measure on a device: float32, TF32 where there is any, and half precision."""
    found: list[Precision] = ["float32"]
    with suppress(ConfigError):
        require_precision("tf32", device)
        found.append("tf32")
    return [*found, "bfloat16" if device == "cpu" else "float16"]


def network_input(source: SourceModel, side: int, batch_size: int) -> Tensor:
    """Make a batch of images of noise with the aspect of the images on file, normalized, on the network's device."""
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, 3, side, round(side * WIDTH / HEIGHT))
    pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    return source.normalize(pixels, source.normalization.mean, source.normalization.std)


def forward_rates(source: SourceModel, images: Tensor, precision: Precision, repeats: int) -> list[float]:
    """Measure images per second of the network alone, after one pass to warm up."""
    work = partial(run_network, source.network, images, precision)
    work()
    return [len(images) / seconds(work) for _ in range(repeats)]


@contextmanager
def extraction(
    source: SourceModel, side: int, batch_size: int, n_images: int
) -> Iterator[Callable[[Precision], Works]]:
    """Write images, and yield a function from a precision to the three kinds of work on them."""
    own, device = source.normalization, device_of(source.network)
    in_numpy = device.type == "cpu"  # on CUDA, features stay where they are
    with tempfile.TemporaryDirectory() as folder:
        records = written_images(Path(folder), n_images)
        sample = drawn_sample(records)

        def files() -> TargetImages:
            return TargetImages(records, side, batch_size=batch_size, threads=decoding_threads(str(device)))

        batches = list(files())
        inputs = [source.normalize(torch.from_numpy(batch.pixels), own.mean, own.std) for batch in batches]

        def works(precision: Precision) -> Works:
            return {
                BARE: lambda: [run_network(source.network, images, precision) for images in inputs],
                FILES: lambda: extract_readings([source], files(), sample, precision=precision, in_numpy=in_numpy),
                DECODED: lambda: extract_readings([source], batches, sample, precision=precision, in_numpy=in_numpy),
            }

        yield works


def alternately(works: Works, repeats: int) -> dict[str, list[float]]:
    """Measure the wall seconds of each work `repeats` times, alternately; one round before these warms up."""
    measured: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            taken = seconds(work)
            if repeat:
                measured[name].append(taken)
    return measured


def ratios(measured: Mapping[str, Sequence[float]], name: str) -> list[float]:
    """Divide one work's seconds by those of the bare forward passes of the same round."""
    return [one / bare for one, bare in zip(measured[name], measured[BARE], strict=True)]
