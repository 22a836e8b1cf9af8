"""The same as `seg-transfer score-pairs`."""

import sys

from seg_transfer.cli import main

main(["score-pairs", *sys.argv[1:]])
