from collections.abc import Iterator

import pytest

from seg_transfer.console import console_logging


@pytest.fixture(autouse=True)
def shown() -> Iterator[None]:
    """What is logged stands on stdout and stderr, as in a command."""
    with console_logging():
        yield
