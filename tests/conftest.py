import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings
from report_inputs import hostile_input

from seg_transfer.demo.world import build_world
from seg_transfer.reports.published import published_input
from seg_transfer.reports.report import write_report

# A shell that runs the tests in the background makes them and their child processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the clock one minute ahead of the test's files, so that no file system's clock leaves their order open."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--order", metavar="reversed|SEED", help="run the tests backward, or shuffled with this seed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Reorder the tests but keep modules together, because their shared fixtures would be built again and again."""
    order = config.getoption("order")
    if order == "reversed":
        items.reverse()
    elif order is not None:
        rng = random.Random(int(order))
        positions: defaultdict[Path, float] = defaultdict(rng.random)
        items.sort(key=lambda item: (positions[item.path], rng.random()))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the eleven small real datasets; without it, the test is skipped."""
    beside_checkout = Path(__file__).resolve().parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("SEG_TRANSFER_DATA") or beside_checkout)
    if not folder.is_dir():
        pytest.skip(f"no datasets in {folder}: set SEG_TRANSFER_DATA")
    return folder


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the demonstration's four datasets, 64 x 96 pixels, a few images each; tests only read it."""
    folder = tmp_path_factory.mktemp("small_world")
    build_world(folder, n_train=5, n_source_train=2, n_eval=2)
    return folder


@pytest.fixture(scope="session")
def published_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of the published pairs; tests only read it."""
    folder = tmp_path_factory.mktemp("published_report")
    write_report(published_input(), folder)
    return folder


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report in which every text from outside tries to inject code; tests only read it."""
    folder = tmp_path_factory.mktemp("hostile_report")
    write_report(hostile_input(), folder)
    return folder
