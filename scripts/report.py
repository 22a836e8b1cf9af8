"""The same as `seg-transfer report`."""

import sys

from seg_transfer.cli import main

main(["report", *sys.argv[1:]])
