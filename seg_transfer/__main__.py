"""``python -m seg_transfer`` is the ``seg-transfer`` command."""

from seg_transfer.cli import main

main()
