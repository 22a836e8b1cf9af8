"""The same as `seg-transfer predict`."""

import sys

from seg_transfer.cli import main

main(["predict", *sys.argv[1:]])
