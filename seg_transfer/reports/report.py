"""Writes a report as a folder with one HTML page, its figures and its tables."""

from __future__ import annotations

from pathlib import Path

from seg_transfer.reports.content import build
from seg_transfer.reports.drawing import Picture, picture
from seg_transfer.reports.exports import write_tables
from seg_transfer.reports.figures import all_plots
from seg_transfer.reports.inputs import ReportInput, run_input
from seg_transfer.reports.page import page
from seg_transfer.reports.published import published_input
from seg_transfer.store.atomic import replaced_atomically, write_text

PAGE = "report.html"


def report_run(run_folder: Path, folder: Path | None = None) -> list[Path]:
    """Write the report of a run folder.

    Args:
        run_folder: The run folder of a study, whose pairs are scored and may be fine-tuned.
        folder: Folder of the report; ``report`` in the run folder by default.

    Returns:
        The written files, the page first.

    Raises:
        ResultsError: The folder holds no study, no pair has valid scores, or a file is damaged.
        CheckpointError: A source card is damaged.
    """
    return write_report(run_input(run_folder), folder or run_folder / "report")


def report_published(folder: Path = Path("report"), name: str = "segmentation") -> list[Path]:
    """Write the report of published pairs.

    Args:
        folder: Folder of the report.
        name: One of `seg_transfer.store.published.published_names`.

    Returns:
        The written files, the page first.

    Raises:
        ResultsError: The name is unknown, or the results cannot be read.
    """
    return write_report(published_input(name), folder)


def write_report(report_input: ReportInput, folder: Path) -> list[Path]:
    """Write a report: report.html, figures/*.svg (main ones also .png), and every table as .parquet, .csv and .md.

    Equal input gives equal bytes. Each file is replaced atomically; other files in the folder stay.

    Args:
        report_input: The results.
        folder: Folder of the report.

    Returns:
        The written files, the page first.

    Raises:
        ResultsError: The pairs cannot be evaluated.
    """
    content = build(report_input)
    pictures = [picture(plot) for plot in all_plots(content)]
    written = [folder / PAGE]
    write_text(written[0], page(content, pictures))
    for drawn in pictures:
        written += write_picture(drawn, folder / "figures")
    return written + write_tables(content.tables.values(), folder)


def write_picture(drawn: Picture, folder: Path) -> list[Path]:
    """Write a figure as SVG, and as PNG if it is a main one; returns the files."""
    files = {folder / f"{drawn.plot.name}.svg": drawn.svg}
    if drawn.png is not None:
        files[folder / f"{drawn.plot.name}.png"] = drawn.png
    for file, data in files.items():
        with replaced_atomically(file) as temporary:
            temporary.write_bytes(data)
    return list(files)
