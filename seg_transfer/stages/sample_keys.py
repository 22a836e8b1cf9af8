"""Content keys of pixel samples."""

from __future__ import annotations

from collections.abc import Sequence

from seg_transfer.data.records import Record
from seg_transfer.store.content_key import Key, content_key, manifest_key
from seg_transfer.study.run import Run


def low_shot_sample_key(run: Run, dataset: str) -> Key:
    """Key of the pixel sample of a dataset's low-shot images."""
    return run.cached(f"sample of {dataset}", lambda: sample_key(run, dataset, run.low_shot(dataset)))


def sample_key(run: Run, target: str, records: Sequence[Record]) -> Key:
    """Key of all that decides a target's pixel sample and the images it is seen in."""
    return content_key(
        manifest=manifest_key(run.manifests[target]),
        sampling=run.study.sampling.model_dump(),
        records=run.records_key(target, records),
    )


def stored_sample_key(key: Key, images: str) -> Key:
    """Covers the list of images too: it stands in the file's metadata, where no page checksum guards it."""
    return Key(content_key(sample=key, images=images), key.parts)


def sample_part_name(target: str, name: str) -> str:
    """What a reader calls a part of a sample's key."""
    return f"records of {target} train" if name == "records" else name
