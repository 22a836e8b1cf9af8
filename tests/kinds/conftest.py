from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from kinds.listing import KINDS
from kinds.targets import write_targets
from kinds.way import Way


@pytest.fixture(scope="session")
def way_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Way]:
    """The way of a kind, by its name; each is gone once."""
    world = tmp_path_factory.mktemp("world")
    write_targets(world)

    @cache
    def way(name: str) -> Way:
        return Way(KINDS[name], world, Path(tmp_path_factory.mktemp("kind")))

    return way
