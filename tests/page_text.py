"""The pages of the project in parts: code blocks, headings, tables."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (".github", "configs", "data_manifests", "scripts", "seg_transfer", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
RESULTS_PAGE = ROOT / "data_manifests/published/README.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Table = dict[str, list[str]]
"""First cell of a row -> its other cells."""


def code_blocks(text: str, language: str) -> list[str]:
    return [code for name, code in _BLOCK.findall(text) if name == language]


def prose(text: str) -> str:
    return _BLOCK.sub("", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(text: str) -> list[tuple[list[str], Table]]:
    """List the tables of a page: the cells of the heading row, and the rows, without emphasis."""
    found: list[tuple[list[str], Table]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip().strip("*").strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not inside:
            found.append((cells, {}))
        elif line.startswith("|") and not set(line) <= set("|-"):
            found[-1][1][cells[0]] = cells[1:]
        inside = line.startswith("|")
    return found


def table(page: Path, *labels: str) -> Table:
    """Return the only table of a page that has rows with all these labels."""
    (matching,) = (rows for _, rows in tables(page.read_text()) if set(labels) <= rows.keys())
    return matching
