"""The same as `seg-transfer evaluate`."""

import sys

from seg_transfer.cli import main

main(["evaluate", *sys.argv[1:]])
