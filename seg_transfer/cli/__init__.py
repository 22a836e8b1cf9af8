"""The ``seg-transfer`` command."""

from seg_transfer.cli.app import main as main
