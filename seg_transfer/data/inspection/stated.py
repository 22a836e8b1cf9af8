"""What a manifest states, as answers; and doubts in terms of the lines of a manifest."""

from __future__ import annotations

from dataclasses import replace

from seg_transfer.data.inspection.answers import Answers, Unlisted
from seg_transfer.data.inspection.doubts import Doubt
from seg_transfer.data.manifest import DatasetManifest

# Option and value -> line of a manifest. The lines of other options have the values of the option in brackets.
_LINES = {
    "--unlisted class": "labels.unlisted: error",
    "--labels-are gray": "labels.encoding: id",
    "--labels-are palette": "labels.encoding: palette",
    "--labels-are colors": "labels.encoding: rgb",
    "--ignore none": "labels.ignore: []",
}
_FIELDS = {
    "--exif": "images.exif",
    "--bands": "images.bands",
    "--range": "images.range",
    "--unlisted": "labels.unlisted",
    "--ignore": "labels.ignore",
}
_LISTS = ("--bands", "--range", "--ignore")


def stated_answers(manifest: DatasetManifest) -> Answers:
    """Return what a manifest states: a field that is left to its default is no answer.

    Example:
        ``labels.unlisted: error`` in the file says that all values are meant; without that line, nobody has looked.
    """
    images, labels = manifest.images, manifest.labels
    unlisted: dict[str, Unlisted] = {"error": "class", "nearest": "nearest", "ignore": "ignore"}
    return Answers(
        exif=images.exif if "exif" in images.model_fields_set else None,
        bands=images.bands,
        range=images.range,
        unlisted=unlisted[labels.unlisted] if "unlisted" in labels.model_fields_set else None,
    )


def in_manifest_lines(doubt: Doubt) -> Doubt:
    """Return a doubt whose readings are lines of a manifest instead of options; other readings stay as they are."""
    return replace(doubt, readings=tuple((manifest_line(option), meaning) for option, meaning in doubt.readings))


def manifest_line(option: str) -> str:
    """Return the line of a manifest that states the same as an option.

    Example:
        >>> manifest_line("--range 0,4095"), manifest_line("--exif apply")
        ('images.range: [0, 4095]', 'images.exif: apply')
    """
    name, _, value = option.partition(" ")
    if option in _LINES or name not in _FIELDS:
        return _LINES.get(option, option)
    listed = "[" + value.replace(",", ", ") + "]"
    return f"{_FIELDS[name]}: {listed if name in _LISTS else value}"
