"""Result tables of the literature, as shipped in data_manifests/published (its README says what each column is)."""

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
    if name not in NAMES:
        raise ResultsError(f"published table {name!r} is unknown; choose one of {', '.join(NAMES)}")
    path = shipped(f"data_manifests/published/{name}_pairs.parquet")
    try:
        frame: pd.DataFrame = pq.read_table(path, page_checksum_verification=True).to_pandas()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{path}: not a readable Parquet file ({reason}); reinstall seg_transfer") from error
    return frame
