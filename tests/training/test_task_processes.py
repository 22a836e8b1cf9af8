"""Two processes train one task: each on its share of the batch, with parameters that no score depends on."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from training.trainings import SCHEDULE, Blocks, task_for

from seg_transfer.training.crops import TrainingCrops, as_tensors

CHANGES = {"steps": 1, "warmup_steps": 0, "momentum": 0.0, "weight_decay": 0.0, "mixed_precision": False}
SCRIPT = """
import sys
from pathlib import Path

from training.test_task_processes import CHANGES
from training.trainings import SCHEDULE, Blocks, crops_of, task_for

from seg_transfer.models.checkpoints import save_weights
from seg_transfer.training.fit import fit
from seg_transfer.training.processes import rank_and_size, start_distributed

world, folder = map(Path, sys.argv[1:])
start_distributed()
crops = crops_of(world, SCHEDULE.model_copy(update=CHANGES))
trained = fit(task_for(Blocks, crops, has_scores=False), crops, folder / "work")
save_weights(trained.state_dict(), folder / f"{rank_and_size()[0]}.safetensors")
"""


def test_two_processes_take_one_step_together(crops: TrainingCrops, world: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    package, tests = Path(__file__).parents[2], Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (package, tests))), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    words = [sys.executable, *launch, tmp_path / "train.py", world, tmp_path]
    done = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]

    crops.schedule = SCHEDULE.model_copy(update=CHANGES)
    by_hand, tensors = task_for(Blocks, crops, has_scores=False).train(), crops.packed(as_tensors)
    losses = [by_hand([one["inputs"]], [one["labels"]], mode="loss")["loss_ce"] for one in (tensors[0], tensors[1])]
    ((losses[0] + losses[1]) / 2).backward()
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    for name, parameter in by_hand.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        expected = parameter - SCHEDULE.learning_rate * gradient
        torch.testing.assert_close(first[name], expected.detach(), rtol=1e-4, atol=1e-6)
