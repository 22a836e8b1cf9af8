"""Measure a GPU machine in under five minutes: networks, extraction, metrics, whole pairs, and the paths of CUDA alone.

Needs no data and downloads nothing: networks have random weights, images and observations are synthetic. Prints each
section as it comes; the failure of one does not stop the others, and is repeated at the end. Exits with 1 if anything
failed, or scores of device and host disagree. Seconds are wall time, with all work on the device finished before and
after; spreads are quartiles. On a CPU, all of it runs in sizes that a CPU takes, with gloo in place of NCCL and without
SyncBN.

Examples:
  python scripts/benchmark_gpu.py
  python scripts/benchmark_gpu.py --device cpu --small
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from benchmark_extraction import spread
from benchmark_gpu_metrics import LIMIT, LIMITS, Row, compare, names, observations_of, on_device, seconds
from benchmark_gpu_networks import (
    DECODED,
    FILES,
    alternately,
    extraction,
    forward_rates,
    network_input,
    precisions,
    random_source,
    ratios,
)
from benchmark_gpu_training import in_a_process_group, missing
from benchmark_metrics import LOW_SHOT, PAPER_CLASSES, PAPER_IMAGES, PIXELS_PER_IMAGE

from seg_transfer.errors import reason_of
from seg_transfer.metrics import score_all
from seg_transfer.models.devices import chosen_device
from seg_transfer.models.source_model import SourceModel
from seg_transfer.observations import Observations


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        config: Name of a shipped model config.
        side: Shorter side of the images, pixels.
        batch_size: Images per forward pass.
        n_images: Images of one extraction.
        repeats: Measurements of forward passes and of extraction.
        n_observations, width, n_source_classes: N, D and C_s of the synthetic observations.
        pixels_per_image: Observations of one image.
        n_classes: Least and largest C.
    """

    config: str = "hrnetv2_w48"
    side: int = 713
    batch_size: int = 8
    n_images: int = 24
    repeats: int = 3
    n_observations: int = LOW_SHOT * PIXELS_PER_IMAGE
    width: int = 720
    n_source_classes: int = 150
    pixels_per_image: int = PIXELS_PER_IMAGE
    n_classes: tuple[int, int] = (20, 150)


SMALL = Sizes("hrnetv2_tiny", 64, 1, 3, 1, 400, 8, 5, 40, (3, 6))


@dataclass
class Bench:
    """The device, the sizes, and what one section measured for another.

    Attributes:
        device: "cpu" or "cuda".
        sizes: How much is measured.
        per_image: Seconds of extraction per image in float32, where all sources share the decoding of an image.
        scoring: Number of classes -> seconds of scoring a fifth of a pair's observations, and all, where they lie.
        left_out: Metrics that fail on the device, which `scoring` lacks.
    """

    device: str
    sizes: Sizes
    per_image: float = 0.0
    scoring: dict[int, tuple[float, float]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    @cached_property
    def source(self) -> SourceModel:
        """The network, on the device in the memory layout that the software uses."""
        return random_source(self.sizes.config, self.device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all sections; returns the exit code."""
    options = _options(arguments)
    bench = Bench(chosen_device(options.device), SMALL if options.small else Sizes())
    failures = []
    for title, section in SECTIONS.items():
        print(f"\n{title}", flush=True)
        try:
            failures += [f"{title}: {problem}" for problem in section(bench)]
        except Exception as error:  # the others still have something to say
            failures.append(f"{title}: {type(error).__name__}: {reason_of(error)}")
            print("  failed", flush=True)
    print("\n" + ("\n".join(failures) or "all sections passed"), flush=True)
    return int(bool(failures))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is any")
    parser.add_argument("--small", action="store_true", help="sizes that a CPU takes; its figures mean nothing")
    return parser.parse_args(arguments)


def _describe(bench: Bench) -> list[str]:
    print(f"  torch {torch.__version__}, {torch.get_num_threads()} thread(s) on the host")
    if bench.device == "cpu":
        print("  no GPU")
        return []
    found = torch.cuda.get_device_properties(bench.device)
    print(f"  {found.name}, {found.total_memory / 2**30:.1f} GiB, compute capability {found.major}.{found.minor}")
    print(f"  CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    return []


def _forward(bench: Bench) -> list[str]:
    sizes = bench.sizes
    images = network_input(bench.source, sizes.side, sizes.batch_size)
    shape = " x ".join(map(str, images.shape[2:]))
    print(f"  {sizes.config}, {sizes.batch_size} images of {shape} per pass, channels last")
    for precision in precisions(bench.device):
        rates = forward_rates(bench.source, images, precision, sizes.repeats)
        print(f"  {precision:>8}: {spread(rates, '.2f')} images/s", flush=True)
    return []


def _extraction(bench: Bench) -> list[str]:
    sizes, kinds = bench.sizes, precisions(bench.device)
    with extraction(bench.source, sizes.side, sizes.batch_size, sizes.n_images) as works:
        for precision in (kinds[0], kinds[-1]):
            measured = alternately(works(precision), sizes.repeats)
            for name, taken in measured.items():
                each = spread([1000 * value / sizes.n_images for value in taken], ".2f")
                print(f"  {precision:>8} {name:15} {each} ms/image; ratio {spread(ratios(measured, name), '.3f')}")
            sys.stdout.flush()
            if precision == "float32":
                first, later = (statistics.median(measured[name]) / sizes.n_images for name in (FILES, DECODED))
                bench.per_image = (first + (len(PAPER_CLASSES) - 2) * later) / (len(PAPER_CLASSES) - 1)
    return []


def _metrics(bench: Bench) -> list[str]:
    sizes, problems = bench.sizes, []
    warm = observations_of(2 * sizes.pixels_per_image, sizes.width, 2, 2, sizes.pixels_per_image)
    list(compare(warm, on_device(warm, bench.device)))  # loads libraries and kernels
    for n_classes in sizes.n_classes:
        host = observations_of(
            sizes.n_observations, sizes.width, n_classes, sizes.n_source_classes, sizes.pixels_per_image
        )
        device = on_device(host, bench.device)
        print(f"  N = {sizes.n_observations}, D = {sizes.width}, C = {n_classes}, C_s = {sizes.n_source_classes}")
        print(f"  {'':24}{'host s':>9}{'device s':>10}{'times':>8}  difference")
        for row in compare(host, device):
            print(f"  {_line(row)}", flush=True)
            problems += [f"C = {n_classes}, {row.name} {row.problem}"] if row.problem else []
            bench.left_out |= {row.name} if row.problem and row.difference is None else set()
        bench.scoring[n_classes] = _whole_scoring(device, [name for name in names() if name not in bench.left_out])
        print(f"  {'all, standard errors':24}{'':9}{bench.scoring[n_classes][1]:10.3f}", flush=True)
    print(f"  {len(problems)} problem(s), listed at the end" if problems else f"  scores agree within {LIMIT:.0e}")
    return problems


def _whole_scoring(observations: Observations, chosen: Sequence[str]) -> tuple[float, float]:
    """Measure the seconds of all metrics with standard errors, of the first fifth of the observations and of all."""
    fifth = observations.subset(np.arange(len(observations.labels) // 5))
    return seconds(lambda: score_all(fifth, chosen)), seconds(lambda: score_all(observations, chosen))


def _line(row: Row) -> str:
    if row.problem and row.difference is None:
        return f"{row.name:24}{row.host:9.3f}  {row.problem}"
    line = f"{row.name:24}{row.host:9.3f}{row.device:10.3f}{row.host / max(row.device, 1e-9):8.1f}"
    within = f" (limit {LIMITS[row.name]:.0e})" if row.name in LIMITS else ""
    return line if row.difference is None else f"{line}  {row.difference:.1e}{within}"


def _pairs(bench: Bench) -> list[str]:
    """Whole pairs: extraction by this network, and all metrics where the features lie, one after the other."""
    if not (bench.per_image and bench.scoring):
        return ["needs the seconds of extraction and of metrics, which were not measured"]
    if bench.left_out:
        print(f"  without {', '.join(sorted(bench.left_out))}")
    for n_classes, (_, scoring) in bench.scoring.items():
        extracting = bench.per_image * LOW_SHOT
        print(
            f"  {LOW_SHOT} images, {n_classes} classes: {60 / (extracting + scoring):.2f} pairs/min "
            f"({extracting:.2f} s extraction, {scoring:.2f} s metrics)"
        )
    extracting, scoring = estimate(bench.per_image, bench.scoring, bench.sizes.n_observations)
    n_pairs = len(PAPER_CLASSES) * (len(PAPER_CLASSES) - 1)
    print(
        f"  all {n_pairs} pairs of the paper's sizes: {(extracting + scoring) / 60:.1f} min "
        f"({extracting / 60:.1f} extraction, {scoring / 60:.1f} metrics)"
    )
    return []


def estimate(per_image: float, scoring: Mapping[int, tuple[float, float]], n_observations: int) -> tuple[float, float]:
    """Estimate the seconds of extraction and of metrics for all pairs of the paper's datasets.

    Scoring is taken to be linear in the number of observations, and in that of classes between those measured.

    Args:
        per_image: Seconds of extraction per image.
        scoring: Number of classes, ascending -> seconds for a fifth of the observations, and for all.
        n_observations: The number of all.

    Example:
        >>> estimate(0.0, {5: (1.0, 1.0), 150: (1.0, 1.0)}, 150_000)  # one second for each of 272 pairs
        (0.0, 272.0)
    """
    extracting, total = 0.0, 0.0
    for n_classes in PAPER_CLASSES:
        n_images = PAPER_IMAGES.get(n_classes, LOW_SHOT)
        fifth, whole = (np.interp(n_classes, list(scoring), values) for values in zip(*scoring.values(), strict=True))
        steps = (n_images * PIXELS_PER_IMAGE / n_observations - 0.2) / 0.8
        extracting += n_images * per_image
        total += float(fifth + steps * max(whole - fifth, 0.0))
    n_sources = len(PAPER_CLASSES) - 1
    return n_sources * extracting, n_sources * total


def _training(bench: Bench) -> list[str]:
    """Steps in mixed precision alone, then with DDP in the group of one process that torchrun started."""
    found = in_a_process_group(bench.device)
    ran = found["ran"]
    print(f"  mixed precision: {ran.get(found['arithmetic'], 0)} convolutions in {found['arithmetic']}")
    print(f"  alone: {found['alone']:.2f} s; one process with {found['backend']}: {found['together']:.2f} s")
    kinds = ("MMDistributedDataParallel", "SyncBatchNorm", "BatchNorm2d")
    print("  forward passes: " + ", ".join(f"{kind} {ran.get(kind, 0)}" for kind in kinds))
    print(f"  largest difference of a weight between the two: {found['difference']:.1e}")
    return missing(found, bench.device)


SECTIONS: dict[str, Callable[[Bench], list[str]]] = {
    "Device": _describe,
    "Forward passes": _forward,
    "Extraction over bare forward passes": _extraction,
    "Metrics": _metrics,
    "Whole pairs": _pairs,
    "Training": _training,
}


if __name__ == "__main__":
    sys.exit(main())
