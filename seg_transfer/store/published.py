"""Published results, shipped in data_manifests/published, whose README describes every column."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from seg_transfer.data.plain import read_yaml
from seg_transfer.errors import ResultsError
from seg_transfer.resources import shipped
from seg_transfer.store.results import read_pairs

NAMES = ("segmentation", "architecture")

# Name of the pairs -> the table, its column with the actual performance, and the performance measure.
PAIRS = {
    "segmentation": ("segmentation", "miou", "mIoU"),
    "architectures": ("architecture", "accuracy_fine_tuned", "accuracy"),
    "architectures_frozen": ("architecture", "accuracy_frozen", "accuracy"),
}
# Number of classes of the datasets, which the original table lacks.
_CLASSIFICATION_CLASSES = {
    "caltech_birds2011": 200,
    "cifar10": 10,
    "cifar100": 100,
    "dtd": 47,
    "imagenette": 10,
    "oxford_flowers102": 102,
    "oxford_iiit_pet": 37,
    "stanford_dogs": 120,
    "sun397": 397,
}
# Key of the table of facts -> the column of pairs, where accuracy also stands in the column miou.
_FACTS = {
    "parameters": "parameters",
    "gflops": "gflops",
    "own_performance": "own_miou",
    "n_train_images": "n_train_images",
}


def load_published(name: str = "segmentation") -> pd.DataFrame:
    """Load published scores and actual performance of Agostinelli et al. (ECCV 2022).

    Args:
        name: "segmentation": 272 pairs of 17 datasets, in the form that `seg_transfer.evaluation.evaluate` takes.
            "architecture": 171 pairs of 19 ImageNet architectures and 9 classification targets, with two accuracies.

    Returns:
        One row per pair. The column hscore comes from a faulty implementation and differs from the metric h_score;
        `evaluate` only uses it if ``metrics=`` names it.

    Raises:
        ResultsError: The table is unknown or cannot be read.

    Example:
        >>> load_published().shape
        (272, 9)
    """
    frame: pd.DataFrame = _read(name).to_pandas()
    return frame


def published_facts(name: str = "segmentation") -> dict[str, Any]:
    """Read the description of a published table.

    Args:
        name: "segmentation" or "architecture".

    Returns:
        title, origin, licence, commit, changes; and columns, which maps a column to its unit and meaning, and to
        ``faulty: True`` where its values are known to be wrong.

    Raises:
        ResultsError: The table is unknown or cannot be read.

    Example:
        >>> published_facts()["licence"]
        'Apache-2.0, The Google Research Authors'
    """
    facts = {key.decode(): text.decode() for key, text in _read(name).schema.metadata.items() if key != b"pandas"}
    return {**facts, "columns": json.loads(facts["columns"])}


def published_studies() -> dict[str, Path]:
    """Find this project's published studies: name -> run folder without weights, below data_manifests/published.

    Example:
        >>> "real7" in published_studies()
        True
    """
    files = sorted(shipped("data_manifests/published").glob("*/study.yaml"))
    return {file.parent.name: file.parent for file in files}


def published_names() -> tuple[str, ...]:
    """Return the names that `published_pairs` takes: the tables of others, then the studies of this project."""
    return (*PAIRS, *published_studies())


def published_source_facts(name: str = "segmentation") -> pd.DataFrame:
    """Read what is known about the sources of a published table without computing anything on a target.

    Args:
        name: "segmentation": 17 datasets, on each of which one HRNetV2-W48 was trained.
            "architecture": 19 architectures trained on ImageNet.

    Returns:
        One row per source, which is the index, and the columns that are known:

        * parameters: number of parameters of the network
        * gflops: billions of floating-point operations of one image, two per multiplication with addition
        * own_miou: performance on the source's own dataset, a fraction in [0, 1]; the accuracy of an architecture
        * n_train_images: number of images that the source was trained on

    Raises:
        ResultsError: The table is unknown.
        ConfigError: The shipped file of facts cannot be read.

    Example:
        >>> int(published_source_facts("architecture").loc["vgg16", "parameters"])
        138357544
    """
    _check_known(name)
    facts: Any = read_yaml(shipped("data_manifests/published/source_facts.yaml"))
    frame = pd.DataFrame.from_dict(facts[name], orient="index").rename_axis("source")
    return frame.rename(columns=_FACTS)[[column for key, column in _FACTS.items() if key in frame]]


def published_pairs(name: str = "segmentation") -> tuple[pd.DataFrame, str]:
    """Load published pairs in the form that `seg_transfer.evaluation.evaluate` takes.

    Args:
        name: "segmentation": mIoU after fine-tuning, 17 sources and targets.
            "architectures": accuracy after fine-tuning, 19 ImageNet architectures (the sources) on 9 classification
            targets. "architectures_frozen": accuracy of a linear head on their fixed features.
            A study of `published_studies`: mIoU after fine-tuning, with the rows of scratch.

    Returns:
        One row per pair, with n_target_classes and those `published_source_facts` that are known for all sources; and
        the performance measure in the column miou, "mIoU" or "accuracy".

    Raises:
        ResultsError: The name is unknown, or the table cannot be read.

    Example:
        >>> pairs, performance = published_pairs("architectures")
        >>> len(pairs), performance
        (171, 'accuracy')
    """
    studies = published_studies()
    if name in studies:
        return read_pairs(studies[name])[0], "mIoU"
    if name not in PAIRS:
        raise ResultsError(f"published pairs {name!r} are unknown; choose among {', '.join(published_names())}")
    table, column, performance = PAIRS[name]
    frame = load_published(table)
    if table == "architecture":
        frame = frame.rename(columns={"source_architecture": "source", column: "miou"})
        frame = frame.drop(columns=[other for other in frame if str(other).startswith("accuracy_")])
        frame = frame.assign(n_target_classes=frame["target"].map(_CLASSIFICATION_CLASSES))
    return frame.join(published_source_facts(table).dropna(axis="columns"), on="source"), performance


def _check_known(name: str) -> None:
    if name not in NAMES:
        raise ResultsError(f"published table {name!r} is unknown; choose one of {', '.join(NAMES)}")


def _read(name: str) -> pa.Table:
    _check_known(name)
    path = shipped(f"data_manifests/published/{name}_pairs.parquet")
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(f"{path}: not a readable Parquet file ({reason}); reinstall seg_transfer") from error
