"""Draws the pixel samples of a study's targets, stores them, and reads them back while they are valid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seg_transfer.data.images import image_size, read_label, short_side_size
from seg_transfer.data.manifest import DatasetManifest
from seg_transfer.data.prefetch import prefetch
from seg_transfer.data.record import Record
from seg_transfer.errors import DataError
from seg_transfer.observations import PixelSample
from seg_transfer.sampling import class_counts, draw_pixel_sample, nearest_resize_labels
from seg_transfer.stages.sample_keys import class_pixels_key, sample_key, stored_sample_key
from seg_transfer.store.key_parts import parts_entry
from seg_transfer.store.tables import SAMPLES, class_index_type, metadata_of, read_metadata, read_table, write_table
from seg_transfer.study.run import Run

_STRIDE = 4
_CLASS_PIXELS, _CLASS_PIXELS_KEY = "class_pixels", "class_pixels_key"
_LabelMap = npt.NDArray[np.integer[Any]]


def pixel_sample(run: Run, target: str, records: Sequence[Record]) -> PixelSample:
    """Return a target's pixel sample: the stored one if it is valid, otherwise a new one, which is then stored.

    Raises:
        DataError: A label map is unreadable or differs in size from its image, or fewer than two classes are labeled.
    """
    file, key = run.sample_file(target), sample_key(run, target, records)
    if file.exists():
        stored = read_table(file, SAMPLES)
        if metadata_of(stored, "content_key") == stored_sample_key(key, metadata_of(stored, "images")):
            return _from_table(stored)
    sample, counts = _draw(run, target, records)
    images = _images(sample)
    about = {"content_key": stored_sample_key(key, images), "dataset": target, "images": images}
    if counts is not None:
        text = json.dumps(counts.tolist())
        about |= {_CLASS_PIXELS: text, _CLASS_PIXELS_KEY: class_pixels_key(key, text)}
    write_table(file, _to_table(sample), about | parts_entry({target: key.parts}))
    return sample


def class_pixels(run: Run, target: str, records: Sequence[Record]) -> npt.NDArray[np.int64]:
    """Return the number of labeled pixels of every class of the manifest in a target's low-shot label maps.

    They are stored with a pixel sample whose probabilities follow from them, and counted otherwise.

    Raises:
        DataError: A label map is unreadable or differs in size from its image.
    """
    stored = read_metadata(run.sample_file(target), SAMPLES, [_CLASS_PIXELS, _CLASS_PIXELS_KEY])
    text = stored[_CLASS_PIXELS]
    # Page checksums do not cover metadata: the key does.
    if text and stored[_CLASS_PIXELS_KEY] == class_pixels_key(sample_key(run, target, records), text):
        return np.array(json.loads(text), np.int64)
    return _count_pixels(run, target, records)


def _draw(run: Run, target: str, records: Sequence[Record]) -> tuple[PixelSample, npt.NDArray[np.int64] | None]:
    """Draw a sample; also returns the labeled pixels of every class where they had to be counted."""
    manifest, sampling = run.manifests[target], run.study.sampling
    counts = _count_pixels(run, target, records) if sampling.balance == "dataset" else None
    sample = draw_pixel_sample(
        _label_maps(manifest, records, sampling.grid),
        sampling.pixels_per_image,
        # Without counts, the probabilities are inverse to the counts of each image.
        class_counts=np.ones(len(manifest.classes), np.int64) if sampling.balance == "none" else counts,
        dataset=target,
        seed=sampling.seed,
        ignore_value=manifest.ignore_index,
    )
    n_classes = len(np.unique(sample.labels))
    if n_classes < 2:
        raise DataError(
            f"target {target}: its {len(records)} low-shot images show {n_classes} class(es); class separability needs "
            "at least two; choose more images or another label map"
        )
    return sample, counts


def _count_pixels(run: Run, target: str, records: Sequence[Record]) -> npt.NDArray[np.int64]:
    """Count in the full label maps, whatever grid the pixels are drawn from."""
    manifest = run.manifests[target]
    label_maps = (labels for _, labels in _label_maps(manifest, records, "full"))
    return class_counts(label_maps, len(manifest.classes), manifest.ignore_index)


def _label_maps(manifest: DatasetManifest, records: Sequence[Record], grid: str) -> Iterator[tuple[str, _LabelMap]]:
    def read(record: Record) -> tuple[str, _LabelMap]:
        labels: _LabelMap = read_label(record, manifest)
        size = image_size(record)
        if size != labels.shape:
            raise DataError(
                f"{record.label_name}: its size {labels.shape} differs from its image's size {size}; "
                "replace one of them"
            )
        if grid == "feature":
            height, width = short_side_size(*size, min(manifest.crop_size))
            labels = nearest_resize_labels(labels, (-(-height // _STRIDE), -(-width // _STRIDE)))
        return record.image_id, labels

    yield from prefetch(read, records)


def _to_table(sample: PixelSample) -> pa.Table:
    names = pa.array(sample.image_ids, pa.string())
    columns = [names.take(pa.array(sample.image_index)), sample.rows, sample.columns, sample.labels]
    label = SAMPLES.get_field_index("label")
    schema = SAMPLES.set(label, SAMPLES.field(label).with_type(class_index_type(sample.labels)))
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _images(sample: PixelSample) -> str:
    """List every image and the size of its label map as JSON, because images without labeled pixels have no rows."""
    sizes = sample.image_sizes.tolist()
    return json.dumps([[name, *size] for name, size in zip(sample.image_ids, sizes, strict=True)])


def _from_table(table: pa.Table) -> PixelSample:
    images = json.loads(metadata_of(table, "images"))
    number = {name: index for index, (name, _, _) in enumerate(images)}
    return PixelSample(
        image_ids=tuple(number),
        image_sizes=np.array([[height, width] for _, height, width in images], np.int32),
        image_index=np.array([number[name] for name in table["image_id"].to_pylist()], np.int32),
        rows=table["row"].to_numpy(),
        columns=table["column"].to_numpy(),
        labels=table["label"].to_numpy(),
    )
