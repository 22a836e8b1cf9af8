"""CPU time and memory of every metric as the work grows, against the order that the metric states.

The work has five dimensions: observations N, channels D, classes C, source classes C_s, and sources ranked on one
target. Each is doubled three times, while the others stay. Time is that of one score on one thread, with the pass that
it needs; of runs below 0.2 s, the least of three. Memory is the peak beyond the input. Growth is
log2(t8 / t1) / 3, the exponent between the least size and eight times that. The order is the exponent of the term of
`Metric.cost` that grows most; in these, n, d and M are the sample, the projection and the images that the metric
makes of N observations. Growth is marked with ! where it exceeds the order by more than 0.3 and the largest size takes
at least 20 ms: below, most of the time is that of calls.

Example: python scripts/benchmark_growth.py
"""

import argparse
import ctypes
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark_gpu_metrics import by_groups, names, observations_of, score_of
from benchmark_metrics import load_libraries, predicts_groups, timed
from threadpoolctl import threadpool_limits

from seg_transfer.metrics import METRICS
from seg_transfer.metrics._base import Metric, Statistics
from seg_transfer.observations import Observations

DOUBLINGS = 3
PIXELS_PER_IMAGE = 1000
MAX_DIRECTIONS = 64  # of the projection of nleep, whose number of directions is d
TOLERANCE, JUDGED_SECONDS, REPEATED_SECONDS = 0.3, 0.02, 0.2


@dataclass(frozen=True)
class Work:
    """Sizes of one score."""

    N: int
    D: int
    C: int
    C_s: int


# The least size of each dimension, and the sizes that the other dimensions keep.
LEAST, KEPT = Work(10_000, 90, 10, 20), Work(20_000, 180, 20, 40)
LEAST_SOURCES = 2

Measured = tuple[float, float | None]
"""CPU seconds, and megabytes beyond the input."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    chosen = options.metrics or names()
    load_libraries()
    with threadpool_limits(1):
        for dimension in vars(LEAST):
            works = list(doubled(dimension))
            _report(dimension, works, [_one_case(work, chosen) for work in works])
        _report_sources([LEAST_SOURCES * 2**step for step in range(DOUBLINGS + 1)])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="metrics to measure (all)")
    return parser.parse_args(arguments)


def doubled(dimension: str) -> Iterator[Work]:
    """Yield works of which one dimension doubles, and the others stay."""
    for step in range(DOUBLINGS + 1):
        yield replace(KEPT, **{dimension: getattr(LEAST, dimension) * 2**step})


def _one_case(work: Work, chosen: Sequence[str]) -> dict[str, Measured]:
    observations = observations_of(work.N, work.D, work.C, work.C_s, PIXELS_PER_IMAGE)
    return {name: _one_metric(METRICS[name], observations) for name in chosen}


def _one_metric(metric: Metric, observations: Observations) -> Measured:
    runs: list[Measured] = []
    while len(runs) < 3 and (not runs or runs[-1][0] < REPEATED_SECONDS):
        statistics = by_groups(observations) if predicts_groups(metric.name) else Statistics.ungrouped(observations)
        _release_memory()
        runs.append(timed(lambda: score_of(metric, statistics)))  # noqa: B023
    return min(seconds for seconds, _ in runs), runs[0][1]


def _release_memory() -> None:
    """Return free memory to the system; kept, it would hide how much the next run takes (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def growth(seconds: Sequence[float]) -> float:
    """Return the exponent between the first and the last of sizes that double."""
    return math.log2(seconds[-1] / seconds[0]) / (len(seconds) - 1)


def order(metric: Metric, works: Sequence[Work]) -> float:
    """Return the exponent of the term of a metric's cost that grows most between the first and the last work."""
    metric = METRICS[shared[1]] if (shared := re.match(r"as (\w+)", metric.cost)) else metric
    first, last = _values(metric, works[0]), _values(metric, works[-1])
    exponents = [
        sum(int(power or 1) * math.log2(last[symbol] / first[symbol]) for symbol, power in factors)
        for term in metric.cost.split(" + ")
        if (factors := re.findall(r"([A-Za-z]\w*)(?:\^(\d))?", term))
    ]
    return max(exponents) / (len(works) - 1)


def _values(metric: Metric, work: Work) -> dict[str, float]:
    """Return the value of every symbol in costs."""
    n_images = work.N / PIXELS_PER_IMAGE
    return {
        **vars(work),
        "n": min(work.N, int(metric.settings.get("max_observations", work.N))),
        "d": min(work.D, MAX_DIRECTIONS),
        "M": min(n_images, int(metric.settings.get("max_images", n_images))),
        "M_s": 5,
    }


def _report(dimension: str, works: Sequence[Work], cases: Sequence[Mapping[str, Measured]]) -> None:
    others = ", ".join(f"{name} = {value}" for name, value in vars(KEPT).items() if name != dimension)
    sizes = [getattr(work, dimension) for work in works]
    _print_head(f"{dimension} grows; {others}", dimension, sizes)
    for name in cases[0]:
        measured = [case[name] for case in cases]
        print(_line(name, measured, order(METRICS[name], works)), flush=True)


def _print_head(title: str, dimension: str, sizes: Sequence[int]) -> None:
    print(f"\n{title}; CPU seconds, one thread")
    cells = "".join(f"{f'{dimension}={size}':>11}" for size in sizes)
    print(f"{'':20}{cells}{'growth':>9}{'order':>7}  MB at least and largest size")


def _line(name: str, measured: Sequence[Measured], stated: float) -> str:
    seconds = [one for one, _ in measured]
    grown = growth(seconds)
    mark = "!" if grown > stated + TOLERANCE and seconds[-1] >= JUDGED_SECONDS else " "
    least, largest = ("-" if memory is None else f"{memory:.0f}" for _, memory in (measured[0], measured[-1]))
    return f"{name:20}{''.join(f'{one:11.3f}' for one in seconds)}{grown:9.2f}{stated:7.2f}{mark} {least} {largest}"


def _report_sources(counts: Sequence[int]) -> None:
    """Rank growing banks of tiny networks with random weights on one target."""
    with tempfile.TemporaryDirectory() as folder:
        rank = _ranking(Path(folder), counts[-1])
        rank(1)  # imports
        _print_head("sources grow; rank_sources, 12 images of 48 x 64", "sources", counts)
        measured = []
        for count in counts:
            _release_memory()
            measured.append(timed(lambda: rank(count)))  # noqa: B023
        print(_line("rank_sources", measured, 1.0), flush=True)


def _ranking(folder: Path, n_sources: int) -> Callable[[int], object]:
    """Write a target and networks; returns the function that ranks so many of them."""
    from seg_transfer import rank_sources
    from seg_transfer.demo.world import build_world
    from seg_transfer.models.checkpoints import save_weights
    from seg_transfer.models.configs import read_model_config
    from seg_transfer.models.networks import build_network
    from seg_transfer.resources import shipped

    config = shipped("configs/models/hrnetv2_tiny.py")
    target, *_ = build_world(folder / "world", n_train=12, n_source_train=1, n_eval=1, size=(48, 64))
    model, entries = read_model_config(config), []
    normalization = {"mean": [0.5] * 3, "std": [0.25] * 3}
    for number in range(n_sources):
        weights = folder / f"{number}.safetensors"
        save_weights(build_network(model, seed=number).state_dict(), weights)
        entries.append({"name": f"source{number}", "config": config, "checkpoint": weights, **normalization})
    return lambda count: rank_sources(target, entries[:count], data_root=folder / "world", device="cpu")


if __name__ == "__main__":
    main()
