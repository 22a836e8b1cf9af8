"""The same as `seg-transfer explain`."""

import sys

from seg_transfer.cli import main

main(["explain", *sys.argv[1:]])
