"""The same as `seg-transfer choose`."""

import sys

from seg_transfer.cli import main

main(["choose", *sys.argv[1:]])
