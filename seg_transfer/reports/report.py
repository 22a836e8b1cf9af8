"""A report as a folder: one HTML page, its figures, its tables."""

from __future__ import annotations

from pathlib import Path

from seg_transfer.reports.content import build
from seg_transfer.reports.drawing import Picture, picture
from seg_transfer.reports.exports import write_tables
from seg_transfer.reports.figures import all_plots
from seg_transfer.reports.material import Material
from seg_transfer.reports.page import page
from seg_transfer.store.atomic import replaced_atomically, write_text

PAGE = "report.html"


def write_report(material: Material, folder: Path) -> list[Path]:
    """Write report.html, figures/*.svg and .png, and every table as .parquet, .csv and .md; returns the files.

    The same material gives the same bytes. Files are replaced whole, and a file of an earlier report that this one does
    not have stays.

    Raises:
        ResultsError: The pairs cannot be evaluated.
    """
    content = build(material)
    pictures = [picture(plot) for plot in all_plots(content)]
    written = [folder / PAGE]
    write_text(written[0], page(content, pictures))
    for one in pictures:
        written += _write_picture(one, folder / "figures")
    return written + write_tables(content.tables.values(), folder)


def _write_picture(one: Picture, folder: Path) -> list[Path]:
    files = {folder / f"{one.plot.name}.svg": one.svg, folder / f"{one.plot.name}.png": one.png}
    for file, data in files.items():
        with replaced_atomically(file) as temporary:
            temporary.write_bytes(data)
    return list(files)
