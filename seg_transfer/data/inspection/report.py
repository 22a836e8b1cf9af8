"""Says what an inspection found: as lines of text, as plain data, and as a manifest to correct."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len

from seg_transfer.data.inspection.doubts import ClassRow
from seg_transfer.data.inspection.folders import Inspection
from seg_transfer.data.inspection.pixels import value_text
from seg_transfer.data.inspection.wording import counted
from seg_transfer.errors import printable

_MAX_SHOWN = 12
_KINDS = {
    "id": "numbers",
    "palette": "palette indices",
    "rgb": "colors",
    "coco": "COCO annotations",
    "labelme": "LabelMe annotations",
}


def inspection_lines(found: Inspection) -> list[str]:
    """Format everything that was found as lines of text: files, classes, notes, doubts."""
    facts = _facts(found)
    width = max(len(name) for name, _ in facts) + 2
    lines = [f"{name:{width}}{fact}" for name, fact in facts]
    lines += ["", *_class_lines(found)]
    lines += [f"note: {note}" for note in found.notes]
    return lines + [f"doubtful: {doubt.line}" for doubt in found.doubts]


def summary_lines(found: Inspection) -> list[str]:
    """Format what was found as three lines: files, classes, and what is ignored or unusual."""
    pairs = f"{counted(found.n_pairs, 'pair')}{_extent(found)}"
    shares = [f"{row.name} {share:.1%}" for row, share in _shares(found)]
    more = [f"and {len(shares) - _MAX_SHOWN} more"] if len(shares) > _MAX_SHOWN else []
    return [
        "; ".join([f"{pairs} ({found.layout.rule})", f"images: {_sizes(found)}", *found.file_notes]),
        f"{counted(len(shares), 'class')} from {_kind(found)}: {', '.join(shares[:_MAX_SHOWN] + more)}",
        "; ".join([f"ignored: {_ignored(found)}", *found.conclusion.notes]),
    ]


def inspection_dict(found: Inspection) -> dict[str, Any]:
    """Convert an inspection to plain data for JSON."""
    layout, conclusion = found.layout, found.conclusion
    heights, widths = zip(*found.sizes, strict=True)
    return {
        "dataset": found.manifest.name,
        "root": str(found.root),
        "n_pairs": found.n_pairs,
        "n_tiles": len(found.records) if found.manifest.tiles else None,
        "rule": layout.rule,
        "images_without_label_map": list(layout.unlabeled),
        "label_maps_without_image": list(layout.unpaired),
        "skipped": {reason: list(files) for reason, files in layout.skipped.items()},
        "n_looked_at": len(found.sizes),
        "height": [min(heights), max(heights)],
        "width": [min(widths), max(widths)],
        "encoding": found.encoding,
        "classes": {
            row.name: {
                "value": _value(found, row.values[0]),
                "share": share,
                "pixels": row.pixels,
                "images": row.images,
            }
            for row, share in _shares(found)
        },
        "ignored": {_value(found, value): pixels for value, pixels in conclusion.ignored.items()},
        "ignored_share": conclusion.ignored_share,
        "notes": list(found.notes),
        "doubts": [
            {"kind": doubt.kind, "line": doubt.line, "options": [option for option, _ in doubt.readings]}
            for doubt in found.doubts
        ],
    }


def manifest_text(found: Inspection) -> str:
    """Return the manifest as YAML, after comments with notes and doubts."""
    comments = [*found.notes, *(f"doubtful: {doubt.line}" for doubt in found.doubts)]
    return "\n".join([*(f"# {printable(comment)}" for comment in comments), found.manifest.as_yaml()])


def _facts(found: Inspection) -> list[tuple[str, str]]:
    return [
        ("pairs", f"{found.n_pairs}{_extent(found)}; {found.layout.rule}"),
        ("images", _sizes(found)),
        ("label maps", _kind(found)),
        ("ignored", _ignored(found)),
    ]


def _extent(found: Inspection) -> str:
    """Say how many tiles there are, if any, and how much was looked at, if not all."""
    n, n_seen = len(found.records), len(found.sizes)
    tiles = f" in {counted(n, 'tile')}" if found.manifest.tiles else ""
    return tiles if n_seen == n else f"{tiles}, of which {n_seen} {'was' if n_seen == 1 else 'were'} looked at"


def _kind(found: Inspection) -> str:
    return _KINDS[found.encoding]


def _sizes(found: Inspection) -> str:
    sides = [(min(side), max(side)) for side in zip(*found.sizes, strict=True)]
    height, width = (str(low) if low == high else f"{low}-{high}" for low, high in sides)
    return f"{height} x {width} pixels (height x width)"


def _ignored(found: Inspection) -> str:
    ignored = found.conclusion.ignored
    values = [_value(found, value) for value in ignored]
    if found.conclusion.n_unlisted:
        values.append("all others")
    if not values:
        return "nothing"
    return f"{', '.join(values)} ({found.conclusion.ignored_share:.1%} of the pixels)"


def _class_lines(found: Inspection) -> list[str]:
    rows = [(row.name, _value(found, row.values[0]), f"{share:.3%}", str(row.images)) for row, share in _shares(found)]
    table = [("class", "value", "share", "images"), *rows]
    widths = [max(cell_len(row[column]) for row in table) for column in range(4)]
    return [
        "  ".join([_padded(row[0], widths[0]), *(f"{text:>{widths[i]}}" for i, text in enumerate(row) if i)])
        for row in table
    ]


def _padded(name: str, width: int) -> str:
    """Fill up a name with blanks; a character of some scripts takes two places."""
    return name + " " * (width - cell_len(name))


def _shares(found: Inspection) -> list[tuple[ClassRow, float]]:
    """Return the classes, and the share of each among all labeled pixels that were looked at."""
    rows = found.conclusion.table
    total = max(sum(row.pixels for row in rows), 1)
    return [(row, row.pixels / total) for row in rows]


def _value(found: Inspection, value: int) -> str:
    return value_text(value, found.encoding)
