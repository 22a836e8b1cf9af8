"""Which images are predicted, and where their label maps are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seg_transfer.data.inspection.listing import IMAGE_SUFFIXES, is_below, list_files
from seg_transfer.errors import DataError


@dataclass(frozen=True)
class Task:
    """An image, and the files that are written for it.

    Attributes:
        image: The image.
        labels: The label map.
        overlay: The image with the classes in color; None if none is drawn.
    """

    image: Path
    labels: Path
    overlay: Path | None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that are written."""
        return (self.labels,) if self.overlay is None else (self.labels, self.overlay)


def plan_tasks(images: Sequence[Path], out: Path, *, overlay: bool) -> list[Task]:
    """Find images, and choose the names of what is written: subfolders of a folder of images keep their names.

    Args:
        images: Files, and folders that are searched with all folders below; hidden files are skipped.
        out: Folder to write to. Where it lies in a folder of images, it is not searched.
        overlay: Whether images with the classes in color are drawn.

    Raises:
        DataError: A path does not exist, a folder has no image, or two files would have one name or replace an image.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out}: is a file; name a folder")
    tasks = [_task(path, name, out, overlay=overlay) for root in images for path, name in _found(root, out)]
    _refuse_clashes(tasks)
    return tasks


def _found(root: Path, out: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Yield the images of a folder, or a file, and their paths relative to it."""
    if not root.exists():
        raise DataError(f"--images {root}: does not exist; correct the path")
    if not root.is_dir():
        yield root, PurePosixPath(root.name)
        return
    own = str(out.resolve())
    if str(root.resolve()) == own:
        raise DataError(f"--out {out}: is the folder of the images; choose another, so that both stay apart")
    files = list_files(root, IMAGE_SUFFIXES).files
    searched = [name for name in files if not is_below(str((root / name).resolve()), own)]
    if not searched:
        raise DataError(f"--images {root}: has no image (.jpg, .png, .tif, ...); correct the path")
    yield from ((root / name, PurePosixPath(name)) for name in searched)


def _task(image: Path, name: PurePosixPath, out: Path, *, overlay: bool) -> Task:
    labels = out / name.with_suffix(".png")
    return Task(image, labels, labels.with_name(f"{labels.stem}_overlay.png") if overlay else None)


def _refuse_clashes(tasks: Sequence[Task]) -> None:
    """Raise DataError if two images would write one file, or if an image would be replaced."""
    images = {task.image.resolve(): task.image for task in tasks}
    writer: dict[Path, Path] = {}
    for task in tasks:
        for file in task.outputs:
            if file in writer and task.image.resolve() == writer[file].resolve():
                raise DataError(f"{task.image}: is named twice by --images; name it once")
            if file in writer:
                raise DataError(
                    f"{writer[file]} and {task.image} would both be written to {file}; rename one, or predict them "
                    "into different folders"
                )
            writer[file] = task.image
            if file.resolve() in images:
                raise DataError(f"{file}: is an image, which would be replaced; choose another folder for --out")
