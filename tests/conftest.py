import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the seven small real datasets; the test is skipped where there is none."""
    beside_checkout = Path(__file__).resolve().parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("SEG_TRANSFER_DATA") or beside_checkout)
    if not folder.is_dir():
        pytest.skip(f"no datasets in {folder}: set SEG_TRANSFER_DATA")
    return folder
