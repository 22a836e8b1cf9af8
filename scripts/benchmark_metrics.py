"""CPU time and memory of every metric, compared with textbook code for the same number and with a floor.

The floor is one symmetric rank-k update (BLAS dsyrk) of the same N x D matrix in float64: no metric that uses all
second moments can be faster. Every case runs in a process of its own, on one thread, on synthetic observations: float32
features with correlated channels, unbalanced classes away from the origin, 1000 pixels per image. Memory is the peak
beyond the input, with libraries loaded. The pass over the features is measured once for all metrics that use it, and
once more by groups of images, for those that predict held-out images. `probe_miou` and `linear_probe_miou` use the
predictions of `ridge_probe` and `linear_probe`, and cost nothing after these. The textbook versions use the defaults of
scikit-learn and NumPy.

Examples:
  python scripts/benchmark_metrics.py
  python scripts/benchmark_metrics.py --observations 1000000 --no-textbook
  python scripts/benchmark_metrics.py --pairs 27        # a tenth of 17 x 16 pairs of the paper's sizes
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg.blas import dsyrk
from textbook_metrics import TEXTBOOK, textbook_score
from threadpoolctl import threadpool_limits

from seg_transfer.metrics import METRICS, score_all
from seg_transfer.metrics._base import Statistics
from seg_transfer.metrics._transport import has_solver
from seg_transfer.observations import Observations, image_groups

PIXELS_PER_IMAGE = 1000
TOGETHER = ("gbc", "logme", "h_score", "regularized_h_score", "lda_score", "leep")
BASELINES = ("knn", "ridge_probe")
# Classes and low-shot images of the 17 datasets of the paper, each with its own number of classes as source classes.
PAPER_CLASSES = (150, 19, 31, 32, 133, 34, 15, 5, 32, 65, 60, 21, 40, 7, 37, 9, 14)
PAPER_IMAGES = {150: 1000, 133: 1000}
LOW_SHOT = 150


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with threadpool_limits(1):
        if options.case:
            print(json.dumps(_measure(options)))
        elif options.pairs:
            _run_pairs(options)
        else:
            for n in options.observations:
                for n_classes in options.classes:
                    _report(_in_own_process(options, n, n_classes))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, nargs="+", default=[150_000], metavar="N", help="sizes (150000)")
    parser.add_argument("--classes", type=int, nargs="+", default=[20, 150], metavar="C", help="target (20 150)")
    parser.add_argument("--features", type=int, default=720, metavar="D", help="channels (720)")
    parser.add_argument("--source-classes", type=int, default=150, metavar="C", help="source classes (150)")
    parser.add_argument(
        "--metrics", nargs="+", default=[], metavar="NAME", help="metrics besides the six fast ones (all)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="runs of the floor and the six fast metrics, of which medians are shown (3)",
    )
    parser.add_argument("--no-textbook", dest="textbook", action="store_false", help="leave out the textbook versions")
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help="score N pairs of the paper's sizes instead")
    parser.add_argument("--case", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def synthetic(n: int, width: int, n_classes: int, n_source_classes: int, seed: int = 0) -> Observations:
    rng = np.random.default_rng(seed)
    shares = 0.97 ** np.arange(n_classes)
    labels = rng.choice(n_classes, n, p=shares / shares.sum()).astype(np.uint8)
    mixing = rng.normal(size=(width, width)) * np.exp(-np.arange(width) / (width / 4))[:, None] / np.sqrt(width)
    means = 3 + 0.1 * rng.normal(size=(n_classes, width)) @ mixing
    likely = rng.normal(size=(n_classes, n_source_classes))
    features, probs = np.empty((n, width), np.float32), np.empty((n, n_source_classes), np.float32)
    for start in range(0, n, PIXELS_PER_IMAGE):
        rows = slice(start, start + PIXELS_PER_IMAGE)
        drawn = labels[rows]
        noise = rng.normal(size=(2, len(drawn), width))
        features[rows] = noise[0] @ mixing + 0.02 * noise[1] + means[drawn]
        logits = 2 * likely[drawn] + rng.normal(size=(len(drawn), n_source_classes))
        probs[rows] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Observations(features, labels, probs, np.arange(n) // PIXELS_PER_IMAGE)


def complete(observations: Observations, n_source_classes: int) -> Observations:
    """Add image embeddings, observations of the source's own images and numbers of pixels, which some metrics need."""
    features, index = observations.features, observations.image_index
    assert features is not None
    assert index is not None
    width = features.shape[1]
    own = synthetic(5000, width, min(n_source_classes, 150), 2, seed=1)
    rng = np.random.default_rng(2)
    own = Observations(own.features, own.labels, own.source_probs, own.image_index, rng.normal(size=(5, width)))
    embeddings = rng.normal(size=(len(np.unique(index)), width))
    class_pixels = 100 * np.bincount(observations.codes)
    return replace(observations, image_embeddings=embeddings, source_images=own, class_pixels=class_pixels)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in this process."""
    load_libraries()
    n, n_classes = options.observations[0], options.classes[0]
    observations = synthetic(n, options.features, n_classes, options.source_classes)
    assert observations.features is not None
    results: dict[str, Any] = {"n": n, "n_classes": n_classes, "features": options.features}
    results["floor"] = float(np.median([_floor(observations.features) for _ in range(options.repeats)]))
    for label, errors in (("together", False), ("with_errors", True)):
        runs = [timed(lambda: score_all(observations, TOGETHER, errors)) for _ in range(options.repeats)]  # noqa: B023
        results[label] = {"seconds": float(np.median([run[0] for run in runs])), "mb": runs[0][1]}
    observations = complete(observations, options.source_classes)
    ungrouped = Statistics.ungrouped(observations)
    grouped = Statistics(observations, image_groups(observations.image_index))
    for label, statistics in (("pass", ungrouped), ("pass_by_groups", grouped)):
        results[label] = dict(zip(("seconds", "mb"), timed(lambda: statistics.total), strict=True))  # noqa: B023
    results["metrics"] = {
        name: _one_metric(name, grouped if predicts_groups(name) else ungrouped, options.textbook)
        for name in _chosen(options)
    }
    return results


def load_libraries() -> None:
    """Import what metrics import when they need it, before a clock starts."""
    import scipy.optimize  # noqa: F401

    if has_solver():
        import ot.lp  # noqa: F401


def predicts_groups(name: str) -> bool:
    """Whether a metric predicts groups of images: it needs them whether or not standard errors are requested."""
    return METRICS[name].additive and "image_index" in METRICS[name].needs


def _chosen(options: argparse.Namespace) -> list[str]:
    others = options.metrics or [name for name, metric in METRICS.items() if "scores" not in metric.needs]
    return [*TOGETHER, *(name for name in others if name not in TOGETHER)]


def _one_metric(name: str, statistics: Statistics, textbook: bool) -> dict[str, Any]:
    """Measure score, time and memory of one metric, beyond the shared pass."""
    metric, scores = METRICS[name], []
    seconds, megabytes = timed(lambda: scores.extend(metric.scores(statistics, **metric.settings)))
    results = {"score": scores[0], "seconds": seconds, "mb": megabytes}
    if textbook and name in TEXTBOOK:
        values = []
        results["textbook_seconds"] = timed(lambda: values.append(textbook_score(name, statistics.observations)))[0]
        results["difference"] = abs(values[0] - scores[0]) / abs(scores[0])
    return results


def _floor(features: np.ndarray) -> float:
    """Measure the seconds for one rank-k update; the float64 copy is made before the clock starts."""
    matrix = features.astype(np.float64)
    began = time.process_time()
    dsyrk(1.0, matrix.T)
    return time.process_time() - began


def timed(work: Callable[[], Any]) -> tuple[float, float | None]:
    """Measure CPU seconds, and peak megabytes beyond those at the start (Linux only)."""
    before = _reset_peak()
    began = time.process_time()
    work()
    seconds = time.process_time() - began
    peak = _memory("VmHWM")
    return seconds, None if before is None or peak is None else (peak - before) / 1e6


def _reset_peak() -> float | None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(field: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _in_own_process(options: argparse.Namespace, n: int, n_classes: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--case", "--observations", str(n), "--classes", str(n_classes)]
    words += ["--features", str(options.features), "--source-classes", str(options.source_classes)]
    words += ["--repeats", str(options.repeats), *([] if options.textbook else ["--no-textbook"])]
    words += ["--metrics", *options.metrics] if options.metrics else []
    run = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    results: dict[str, Any] = json.loads(run.stdout)
    return results


def _report(results: dict[str, Any]) -> None:
    floor, metrics = results["floor"], results["metrics"]
    print(f"\nN = {results['n']}, D = {results['features']}, C = {results['n_classes']}; CPU seconds, one thread")
    print(f"{'':26}{'seconds':>9}{'x floor':>9}{'MB':>7}{'textbook':>10}{'times':>7}  difference")
    print(f"{'floor (dsyrk)':26}{floor:9.2f}{1:9.2f}")
    rows = {"shared pass": results["pass"], "... by groups of images": results["pass_by_groups"]}
    rows |= {f"+ {name}": entry for name, entry in metrics.items()}
    textbooks = [metrics[name].get("textbook_seconds") for name in TOGETHER]
    rows["the first six, one pass"] = results["together"]
    if None not in textbooks:
        rows["the first six, one pass"]["textbook_seconds"] = sum(textbooks)
    rows["... with standard errors"] = results["with_errors"]
    for label, entry in rows.items():
        line = f"{label:26}{entry['seconds']:9.2f}{entry['seconds'] / floor:9.2f}"
        line += f"{entry['mb']:7.0f}" if entry["mb"] is not None else f"{'-':>7}"
        if "textbook_seconds" in entry:
            line += f"{entry['textbook_seconds']:10.2f}{entry['textbook_seconds'] / entry['seconds']:7.1f}"
        print(line + (f"  {entry['difference']:.1e}" if "difference" in entry else ""))
    if all(name in metrics for name in BASELINES):
        floors = sum(metrics[name]["seconds"] for name in BASELINES) / floor
        print(f"{' and '.join(BASELINES)} together: {floors:.1f} floors")
    sys.stdout.flush()


def _run_pairs(options: argparse.Namespace) -> None:
    """Score every k-th of the 272 pairs in target order, so that all sizes occur in proportion."""
    pairs = [(i, j) for j in range(len(PAPER_CLASSES)) for i in range(len(PAPER_CLASSES)) if i != j]
    names = options.metrics or TOGETHER
    chosen = [pairs[k] for k in np.linspace(0, len(pairs) - 1, options.pairs).round().astype(int)]
    spent = 0.0
    for source, target in chosen:
        images = PAPER_IMAGES.get(PAPER_CLASSES[target], LOW_SHOT)
        n = images * PIXELS_PER_IMAGE
        observations = synthetic(n, options.features, PAPER_CLASSES[target], PAPER_CLASSES[source], seed=source)
        observations = complete(observations, PAPER_CLASSES[source])
        began = time.process_time()
        score_all(observations, names)
        seconds = time.process_time() - began
        spent += seconds
        print(
            f"C_s = {PAPER_CLASSES[source]:3}, C = {PAPER_CLASSES[target]:3}, N = {n:7}: {seconds:6.1f} s", flush=True
        )
    whole = spent / len(chosen) * len(pairs) / 60
    print(
        f"{len(chosen)} pairs, {', '.join(names)} with standard errors: {spent / 60:.1f} CPU minutes; "
        f"all {len(pairs)}: {whole:.0f}, on two cores {whole / 2:.0f} minutes"
    )


if __name__ == "__main__":
    main()
