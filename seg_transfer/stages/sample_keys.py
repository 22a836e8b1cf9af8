"""Content keys of pixel samples."""

from __future__ import annotations

from collections.abc import Sequence

from seg_transfer.data.record import Record
from seg_transfer.store.content_key import Key, content_key, manifest_key
from seg_transfer.study.run import Run


def low_shot_sample_key(run: Run, dataset: str) -> Key:
    """Return the key of the pixel sample of a dataset's low-shot images."""
    return run.cached(f"sample of {dataset}", lambda: sample_key(run, dataset, run.low_shot(dataset)))


def sample_key(run: Run, target: str, records: Sequence[Record]) -> Key:
    """Return the key of everything that decides a target's pixel sample, including the contents of its images."""
    return content_key(
        manifest=manifest_key(run.manifests[target]),
        sampling=run.study.sampling.model_dump(),
        records=run.records_key(target, records),
    )


def stored_sample_key(key: Key, images: str) -> Key:
    """Extend a sample's key by the list of images, which is stored in metadata that no page checksum covers."""
    return Key(content_key(sample=key, images=images), key.parts)


def class_pixels_key(key: Key, class_pixels: str) -> Key:
    """Return the key of the numbers of labeled pixels that are stored as text in a sample's metadata."""
    return content_key(sample=key, class_pixels=class_pixels)


def sample_part_name(target: str, name: str) -> str:
    """Return the name of a part of a sample's key for readers."""
    return f"records of {target} train" if name == "records" else name
