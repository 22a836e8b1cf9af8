"""A few training steps in mixed precision, alone and then in the process group that torchrun started this process for.

`benchmark_gpu.py` runs it. It prints one line of JSON: what actually ran, as hooks on all modules saw it.

Example: python -m seg_transfer.training.launch --standalone --nproc-per-node=1 scripts/benchmark_gpu_training.py
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor, distributed, nn

from seg_transfer.data.manifest import load_manifest
from seg_transfer.data.records import list_records
from seg_transfer.demo.world import build_world
from seg_transfer.models.configs import read_model_config, with_classes, with_normalization
from seg_transfer.models.networks import build_network
from seg_transfer.resources import shipped
from seg_transfer.training.crops import TrainingCrops
from seg_transfer.training.fit import arithmetic_here, fit
from seg_transfer.training.processes import start_distributed
from seg_transfer.training.schedule import Schedule

SCHEDULE = Schedule(steps=4, batch_size=4, learning_rate=0.01, mixed_precision=True)
# A group that cannot form would wait for half an hour.
MAX_SECONDS = 120


def main() -> None:
    """Train twice, and print what ran."""
    with tempfile.TemporaryDirectory() as folder:
        build_world(Path(folder), n_train=1, n_source_train=4, n_eval=1, size=(48, 64))
        alone, (before, _) = _train(Path(folder), "alone")
        start_distributed()
        together, (after, ran) = _train(Path(folder), "together")
    weights = zip(before.parameters(), after.parameters(), strict=True)
    difference = max(float((one - other).detach().abs().max()) for one, other in weights)
    found = {"backend": distributed.get_backend(), "arithmetic": arithmetic_here(SCHEDULE), "difference": difference}
    print(json.dumps({**found, "alone": alone, "together": together, "ran": ran}), flush=True)


def _train(folder: Path, name: str) -> tuple[float, tuple[nn.Module, Counter[str]]]:
    """Train the network of the demo; returns the seconds, and the network with counts of what ran."""
    manifest = load_manifest(folder / "manifests/day_street.yaml")
    crops = TrainingCrops(list_records(manifest, folder, "source_train"), manifest, SCHEDULE, seed=0)
    model = with_classes(read_model_config(shipped("configs/models/hrnetv2_tiny.py")), len(manifest.classes))
    network = build_network(with_normalization(model, manifest.mean, manifest.std), seed=0)
    ran: Counter[str] = Counter()
    watch = nn.modules.module.register_module_forward_hook(lambda *call: _count(ran, *call))
    began = time.perf_counter()
    trained = fit(network, crops, folder / name)
    seconds = time.perf_counter() - began
    watch.remove()
    return seconds, (trained, ran)


def _count(ran: Counter[str], module: nn.Module, _given: object, output: object) -> None:
    """Count a call by the kind of module, and by the precision of a convolution's output."""
    ran[type(module).__name__] += 1
    if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
        ran[str(output.dtype).removeprefix("torch.")] += 1


def in_a_process_group(device: str) -> dict[str, Any]:
    """Run this file by the launcher of ``--processes``, with one process.

    Args:
        device: "cpu" hides all GPUs.

    Returns:
        What `main` prints.

    Raises:
        RuntimeError: It failed, or did not end in time.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    words = ["-m", "seg_transfer.training.launch", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=1"]
    process = subprocess.Popen(
        [sys.executable, *words, __file__],
        env={**os.environ, **hidden},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, errors = process.communicate(timeout=MAX_SECONDS)
    except subprocess.TimeoutExpired as late:
        process.terminate()  # torchrun stops its children
        process.communicate()
        raise RuntimeError(f"the training in a process group did not end within {MAX_SECONDS} s") from late
    if process.returncode:
        reason = (errors.strip() or printed.strip()).splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"the training in a process group ended with code {process.returncode}: {reason[0]}")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def missing(found: dict[str, Any], device: str) -> list[str]:
    """List what should have run on this device and did not."""
    ran, on_cuda = found["ran"], device != "cpu"
    expected = {
        f"backend {'nccl' if on_cuda else 'gloo'}": found["backend"] == ("nccl" if on_cuda else "gloo"),
        "MMDistributedDataParallel": "MMDistributedDataParallel" in ran,
        f"convolutions in {found['arithmetic']}": found["arithmetic"] in ran,
    }
    if on_cuda:
        expected |= {"SyncBatchNorm": "SyncBatchNorm" in ran, "float16": found["arithmetic"] == "float16"}
    return [f"{name} did not run" for name, is_there in expected.items() if not is_there]


if __name__ == "__main__":
    main()
