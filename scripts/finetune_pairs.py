"""The same as `seg-transfer finetune-pairs`."""

import sys

from seg_transfer.cli import main

main(["finetune-pairs", *sys.argv[1:]])
