"""Parquet files of images and masks for tests, as dataset hubs write them."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HUB_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
HUB_FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "Image"}}


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def image(row: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(row).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def label(row: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(100 + row).integers(0, 3, (6, 8), dtype=np.uint8)


def hub_cell(content: bytes | None, path: str | None = "x.png") -> dict[str, Any] | None:
    return None if content is None else {"bytes": content, "path": path}


def write_columns(file: Path, columns: dict[str, pa.Array], features: object = None, **options: Any) -> Path:
    """Write a table; ``features`` are those of a dataset hub."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, **options)
    return file


def write_rows(file: Path, rows: Sequence[int], missing: Sequence[int] = (), **options: Any) -> Path:
    """Write the images and label maps of these numbers; a number in ``missing`` has no label map."""
    images = [hub_cell(png(image(row))) for row in rows]
    labels = [hub_cell(None if row in missing else png(label(row))) for row in rows]
    cells = {"image": pa.array(images, HUB_IMAGE), "label": pa.array(labels, HUB_IMAGE)}
    return write_columns(file, cells, **options)
