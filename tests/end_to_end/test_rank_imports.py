"""What `rank` imports: ranking a small model takes less time than any of the packages that it does without."""

import json
import subprocess
import sys

from ranked_bank import words

RANK = """
import contextlib, json, os, sys
from seg_transfer.cli import main
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""
UNUSED = {
    "matplotlib",
    "scipy.stats",
    "sympy",
    "timm",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torchvision",
    "transformers",
}


def test_a_network_of_mmseg_is_ranked_without_packages_that_it_does_not_use(bank):
    done = subprocess.run([sys.executable, "-c", RANK, *words(bank)], capture_output=True, text=True, check=True)
    assert (bank.run / "ranked/ranking.json").exists(), done.stderr
    imported = set(json.loads(done.stdout))
    assert {"torch", "mmseg.models", "seg_transfer.metrics"} <= imported
    assert not imported & UNUSED
