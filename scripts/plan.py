"""The same as `seg-transfer plan`."""

import sys

from seg_transfer.cli import main

main(["plan", *sys.argv[1:]])
