"""Result tables of the literature, as shipped in data_manifests/published (its README says what each column is)."""

import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seg_transfer.errors import ResultsError
from seg_transfer.resources import shipped

NAMES = ("segmentation", "architecture")


def load_published(name: str = "segmentation") -> pd.DataFrame:
    """Published scores and actual performance of Agostinelli et al. (ECCV 2022).

    "segmentation": 272 pairs of 17 datasets, in the form that `seg_transfer.evaluation.evaluate` takes.
    "architecture": 171 pairs of 19 ImageNet architectures and 9 classification targets, with two accuracies.
    The column hscore comes from a faulty implementation. Raises ResultsError if the table is unknown or unreadable.

    >>> load_published().shape
    (272, 9)
    """
    frame: pd.DataFrame = _read(name).to_pandas()
    return frame


def published_facts(name: str = "segmentation") -> dict[str, Any]:
    """What a table's file says of itself: title, origin, licence, commit, changes, and columns.

    `columns` maps a column to its unit and meaning, and to ``faulty: True`` where it must not be believed.

    >>> published_facts()["licence"]
    'Apache-2.0, The Google Research Authors'
    """
    words = {key.decode(): text.decode() for key, text in _read(name).schema.metadata.items() if key != b"pandas"}
    return {**words, "columns": json.loads(words["columns"])}


def _read(name: str) -> pa.Table:
    if name not in NAMES:
        raise ResultsError(f"published table {name!r} is unknown; choose one of {', '.join(NAMES)}")
    path = shipped(f"data_manifests/published/{name}_pairs.parquet")
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{path}: not a readable Parquet file ({reason}); reinstall seg_transfer") from error
