"""The same as `seg-transfer train-sources`."""

import sys

from seg_transfer.cli import main

main(["train-sources", *sys.argv[1:]])
