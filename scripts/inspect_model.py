"""The same as `seg-transfer inspect-model`."""

import sys

from seg_transfer.cli import main

main(["inspect-model", *sys.argv[1:]])
